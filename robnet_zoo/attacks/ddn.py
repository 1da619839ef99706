"""DDN (Rony et al., 2019): the least change in l2 that fools, by steps whose direction and length are decoupled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import Norm, length, steepest
from robnet_zoo.attacks.gradient import Steps, loss_gradient
from robnet_zoo.attacks.losses import LOSSES, is_fooled
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

LAST_STEP = 0.01  # in l2; the first is of length 1, and between them they fall by half a cosine
TINY = 1e-12  # below which a change has no direction


class Ddn(IterativeAttack):
    """DDN (Rony et al., 2019, algorithm 1): a step along the gradient, then onto a sphere that shrinks while it fools.

    radius: of the first sphere, in image units. resize: the share by which the sphere shrinks after an image that fools
    the model, and grows after one that does not. The result is the nearest image that fools the model, whatever eps is;
    it counts if it lies in the ball.
    """

    kind: Literal["ddn"] = "ddn"
    steps: Steps = 100
    radius: Annotated[float, Field(gt=0)] = 1.0
    resize: Annotated[float, Field(gt=0, lt=1)] = 0.05
    restarts: Literal[1] = 1

    precise: ClassVar[bool] = True

    @property
    def default_name(self) -> str:
        return "ddn"

    @property
    def ball(self) -> Norm:
        return "l2"

    @property
    def max_steps(self) -> int:
        return self.steps

    @property
    def early(self) -> bool:
        return False

    @property
    def minimal(self) -> bool:
        return True

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        clean = rows["clean"]
        rows["x"], rows["best"] = clean, clean
        rows["furthest"] = length(torch.maximum(clean, 1 - clean), "l2")[:, None, None, None]  # in the box
        rows["best_distance"] = rows["furthest"]
        rows["radius"] = torch.full_like(rows["eps"], self.radius)

    def query(self, model: Classifier, rows: Rows) -> Seen:
        gradient, logits = loss_gradient(model, rows["x"], LOSSES["cross_entropy"], rows["label"], rows["target"])
        return Seen(logits, gradient, backwards=1)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        x, clean = rows["x"], rows["clean"]
        distance = length(x - clean, "l2")[:, None, None, None]
        fooled = is_fooled(seen.logits, rows["label"], rows["target"])[:, None, None, None]
        nearer = fooled & (distance < rows["best_distance"])
        rows["best"] = torch.where(nearer, x, rows["best"])
        rows["best_distance"] = torch.where(nearer, distance, rows["best_distance"])
        cosine = ((1 + (torch.pi * rows["t"] / self.steps).cos()) / 2)[:, None, None, None].to(x)
        delta = x - clean + (LAST_STEP + (1 - LAST_STEP) * cosine) * steepest(seen.gradient, "l2")
        factor = torch.where(fooled, 1 - self.resize, 1 + self.resize)
        rows["radius"] = torch.minimum(factor * rows["radius"], rows["furthest"])
        size = length(delta, "l2")[:, None, None, None].clamp(min=TINY)
        rows["x"] = (clean + rows["radius"] * delta / size).clamp(0, 1)

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        return rows["best"]
