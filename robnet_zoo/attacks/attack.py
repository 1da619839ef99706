"""What every attack is: a document of its parameters that says how one image, in one slot, moves from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from robnet_zoo.attacks.ball import Norm
from robnet_zoo.attacks.losses import Loss
from robnet_zoo.attacks.random import Key
from robnet_zoo.core.documents import Document
from robnet_zoo.errors import AttackError

Classifier = Callable[[Tensor], Tensor]  # (N, C, H, W) in [0, 1] -> logits (N, K)
Count = Annotated[int, Field(ge=1)]
Rows = dict[str, Tensor]
"""Everything that an attack remembers, a row a slot, whose images are independent of each other:

clean: (N, C, H, W); x: the image that the next query looks at; label, target (-1: none), t: (N,), the steps taken;
eps: (N, 1, 1, 1); clean_logits: (N, K); and whatever else the attack puts there.
"""


@dataclass(frozen=True)
class Seen:
    """What a query saw: logits (N, K), the gradient that the attack asked for, and what a row of it cost."""

    logits: Tensor
    gradient: Tensor | None = None  # (N, C, H, W), or (N, M, C, H, W) for M gradients
    forwards: int = 1
    backwards: int = 0


def check_box(images: Tensor) -> None:
    """Raise AttackError unless all images are in [0, 1]; NaN is not."""
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise AttackError(f"expected images in [0, 1], got values from {low:.3g} to {high:.3g}")


class Attack(Document):
    """Base of the attacks. A try begins, then queries the model and advances until it is finished.

    Rows never look at each other, so any of them can be taken out and others put in between two steps
    (`robnet_zoo.attacks.continuous_batching`).
    """

    name: Annotated[str | None, Field(pattern=r"^[a-z0-9_]+\z", description="in results; by default its kind")] = None
    restarts: Count = 1

    gradient_free: ClassVar[bool] = False
    precise: ClassVar[bool] = False  # whether it ends on the boundary itself, where bfloat16 would mislead it
    norm_of_ball: ClassVar[Norm] = "linf"  # where no field says it

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or self.default_name

    @property
    def default_name(self) -> str:
        raise NotImplementedError

    @property
    def ball(self) -> Norm:
        """The norm that eps is a radius in."""
        norm: Norm = getattr(self, "norm", self.norm_of_ball)
        return norm

    @property
    def early(self) -> bool:
        """Whether an image is done as soon as it fools the model; not so where the smallest distance is looked for."""
        return True

    @property
    def minimal(self) -> bool:
        """Whether results may lie outside the ball, which only decides whether they count."""
        return False

    def tries(self, classes: int) -> int:
        """How often an image that withstands is attacked anew, in all."""
        return self.restarts

    def check(self, classes: int) -> None:
        """Raise AttackError if the attack is not defined for so few classes."""

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        """Put `x` and the attack's own rows beside those of fresh images. keys: one a row."""
        raise NotImplementedError

    def query(self, model: Classifier, rows: Rows) -> Seen:
        """Look at `x`."""
        raise NotImplementedError

    def advance(self, rows: Rows, seen: Seen) -> None:
        """Replace `x`, never in place, and whatever else changes."""
        raise NotImplementedError

    def finished(self, rows: Rows) -> Tensor:
        """Which rows are at their end, bool (N,)."""
        raise NotImplementedError

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        """The image that a row gives for an iterate x."""
        return x


def loss_gradient(model: Classifier, x: Tensor, loss: Loss, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of the loss by the images, logits): (N, C, H, W), (N, K). No other gradient is computed."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        total = loss(logits, labels, targets).sum()
    (gradient,) = torch.autograd.grad(total, x)
    return gradient, logits.detach()
