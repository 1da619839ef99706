"""DDN (Rony et al., 2019): the least change in l2 that fools, by steps whose direction and length are decoupled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Rows, Seen
from robnet_zoo.attacks.ball import length, steepest
from robnet_zoo.attacks.gradient import Steps
from robnet_zoo.attacks.losses import LossName, is_fooled
from robnet_zoo.attacks.minimal import MinimalAttack
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy.module("torch")

LAST_STEP = 0.01  # in l2; the first is of length 1, and between them they fall by half a cosine
TINY = 1e-12  # below which a change has no direction


class Ddn(MinimalAttack):
    """DDN (Rony et al., 2019, algorithm 1): a step along the gradient, then onto a sphere that shrinks while it fools.

    radius: of the first sphere, in image units. resize: the share by which the sphere shrinks after an image that fools
    the model, and grows after one that does not. The result is the nearest image that fools the model, whatever eps is;
    it counts if it lies in the ball.
    """

    kind: Literal["ddn"] = "ddn"
    steps: Steps = 100
    radius: Annotated[float, Field(gt=0)] = 1.0
    resize: Annotated[float, Field(gt=0, lt=1)] = 0.05

    loss: ClassVar[LossName] = "cross_entropy"

    @property
    def default_name(self) -> str:
        return "ddn"

    @property
    def max_steps(self) -> int:
        return self.steps

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        clean = rows["clean"]
        rows["furthest"] = length(torch.maximum(clean, 1 - clean), "l2")[:, None, None, None]  # in the box
        self.set_out(rows, rows["furthest"])
        rows["radius"] = torch.full_like(rows["eps"], self.radius)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        x, clean = rows["x"], rows["clean"]
        fooled = is_fooled(seen.logits, rows["label"], rows["target"])[:, None, None, None]
        self.keep_nearest(rows, fooled)
        cosine = ((1 + (torch.pi * rows["t"] / self.steps).cos()) / 2)[:, None, None, None].to(x)
        delta = x - clean + (LAST_STEP + (1 - LAST_STEP) * cosine) * steepest(seen.gradient, "l2")
        factor = torch.where(fooled, 1 - self.resize, 1 + self.resize)
        rows["radius"] = torch.minimum(factor * rows["radius"], rows["furthest"])
        size = length(delta, "l2")[:, None, None, None].clamp(min=TINY)
        rows["x"] = (clean + rows["radius"] * delta / size).clamp(0, 1)
