"""Gradients with respect to images, and the base of the attacks that step along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from robnet_zoo.attacks.attack import Classifier, IterativeAttack, Rows, Seen, StepsFamily
from robnet_zoo.attacks.ball import Norm, Radius, project, steepest
from robnet_zoo.attacks.losses import LOSSES, Loss, LossName
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy
from robnet_zoo.core.documents import problems_error
from robnet_zoo.core.units import Pixels, in_image_units, radius_problem
from robnet_zoo.errors import AttackError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

Steps = Annotated[int, Field(ge=1, le=100_000)]


class GradientAttack(IterativeAttack):
    """Base of the attacks that step along the gradient of a loss and project each step onto ball and box."""

    norm: Norm = "linf"
    loss: LossName = "cross_entropy"

    @property
    def ball(self) -> Norm:
        return self.norm

    @property
    def climbs_margin(self) -> bool:
        return self.loss != "cross_entropy"

    def step_length(self, rows: Rows) -> Radius:
        """Return the length of a step, in image units: one for all rows, or (N, 1, 1, 1)."""
        raise NotImplementedError

    def check(self, num_classes: int) -> None:
        if self.loss == "dlr" and num_classes < 4:
            raise AttackError(f"{self.title}: the loss dlr needs 4 classes, got {num_classes}")

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        rows["x"] = rows["clean"]

    def query(self, model: Classifier, rows: Rows) -> Seen:
        gradient, logits = loss_gradient(model, rows["x"], LOSSES[self.loss], rows["label"], rows["target"])
        return Seen(logits, gradient, backwards=1)

    def direction(self, rows: Rows, gradient: Tensor) -> Tensor:
        """Return where the step goes, with length 1 in the norm of the ball: (N, C, H, W)."""
        return steepest(gradient, self.norm)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        step = self.step_length(rows) * self.direction(rows, seen.gradient)
        rows["x"] = project(rows["x"] + step, rows["clean"], rows["eps"], self.norm)


class IteratedGradientAttack(GradientAttack):
    """Base of the attacks that take several steps, all of the same length."""

    steps: Steps = 20
    step: Annotated[Pixels, Field(description="length of a step, in image units")] = "2/255"

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        if problem := radius_problem(self.step, norm=self.norm):
            raise problems_error([(("step",), problem)])
        return self

    @property
    def max_steps(self) -> int:
        return self.steps

    @property
    def steps_family(self) -> StepsFamily | None:
        if not self.early:
            return None
        return StepsFamily(self.model_copy(update={"steps": 1, "name": None}).dumps(), self.steps)

    @property
    def reach(self) -> float:
        return self.steps * in_image_units(self.step)

    def step_length(self, rows: Rows) -> Radius:
        return in_image_units(self.step)


def loss_gradient(model: Classifier, x: Tensor, loss: Loss, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of a loss with respect to the images, and the logits: (N, C, H, W), (N, K).

    No gradient with respect to a parameter is computed.

    Args:
        model: gives logits (N, K).
        x: the images, (N, C, H, W).
        loss: of logits, labels and targets.
        labels: (N,).
        targets: (N,), -1 for none.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        total = loss(logits, labels, targets).sum()
    return gradient_of(total, x), logits.detach()


def gradient_of(total: Tensor, x: Tensor, *, retain_graph: bool = False) -> Tensor:
    """Return the gradient of a number by images, (N, C, H, W). Raises AttackError if it does not depend on them.

    Args:
        total: the number, ().
        x: the images, (N, C, H, W), which require a gradient.
        retain_graph: whether there is another gradient to come.
    """
    gradient = None
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, x, retain_graph=retain_graph, allow_unused=True)
    if gradient is None:
        what = "logits that depend on the images by operations that have gradients"
        raise AttackError(f"expected {what}, got others; the attack `square` needs none")
    return gradient


def input_gradient(model: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the summed cross-entropy by the images, (N, C, H, W), and the logits, (N, K).

    Args:
        model: the classifier.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
    """
    return loss_gradient(model, images, LOSSES["cross_entropy"], labels, torch.full_like(labels, -1))
