"""The base of the attacks that look for the least change in l2 that fools."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from robnet_zoo.attacks.attack import Classifier, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import Norm, length
from robnet_zoo.attacks.gradient import loss_gradient
from robnet_zoo.attacks.losses import LOSSES, LossName
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")


class MinimalAttack(IterativeAttack):
    """Base of the attacks whose result is the nearest image in l2 that fooled the model, whatever eps is.

    It counts if it lies in the ball. Where no image fooled the model, the result is the clean image.
    """

    restarts: Literal[1] = 1

    precise: ClassVar[bool] = True
    loss: ClassVar[LossName]  # whose gradient a query takes

    @property
    def ball(self) -> Norm:
        return "l2"

    @property
    def climbs_margin(self) -> bool:
        return self.loss != "cross_entropy"

    @property
    def early(self) -> bool:
        return False

    @property
    def minimal(self) -> bool:
        return True

    def set_out(self, rows: Rows, furthest: Tensor) -> None:
        """Begin at the clean images. furthest: the distance that a result has to be nearer than, (N, 1, 1, 1)."""
        rows["x"] = rows["best"] = rows["clean"]
        rows["best_distance"] = furthest

    def query(self, model: Classifier, rows: Rows) -> Seen:
        gradient, logits = loss_gradient(model, rows["x"], LOSSES[self.loss], rows["label"], rows["target"])
        return Seen(logits, gradient, backwards=1)

    def keep_nearest(self, rows: Rows, fooled: Tensor) -> None:
        """Keep the iterates that fool the model where they are the nearest so far. fooled: bool (N, 1, 1, 1)."""
        distance = length(rows["x"] - rows["clean"], "l2")[:, None, None, None]
        nearer = fooled & (distance < rows["best_distance"])
        rows["best"] = torch.where(nearer, rows["x"], rows["best"])
        rows["best_distance"] = torch.where(nearer, distance, rows["best_distance"])

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        return rows["best"]
