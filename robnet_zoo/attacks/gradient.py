"""First-order attacks: FGSM, BIM, PGD and MI-FGSM, and plain functions of the first three for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from robnet_zoo.attacks.attack import Classifier, IterativeAttack, Rows, Seen, StepsFamily, check_box, loss_gradient
from robnet_zoo.attacks.ball import Norm, Radius, project, random_start, steepest
from robnet_zoo.attacks.losses import LOSSES, LossName
from robnet_zoo.attacks.random import Key
from robnet_zoo.core.units import Pixels, in_image_units
from robnet_zoo.errors import AttackError

Steps = Annotated[int, Field(ge=1, le=100_000)]


class GradientAttack(IterativeAttack):
    """Steps of one length along the gradient of a loss, each projected onto ball and box."""

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


class Fgsm(GradientAttack):
    """Fast gradient sign method (Goodfellow et al., 2015): one step of eps, from the image itself."""

    kind: Literal["fgsm"] = "fgsm"

    @property
    def default_name(self) -> str:
        return "fgsm"

    @property
    def max_steps(self) -> int:
        return 1

    def step_length(self, rows: Rows) -> Radius:
        return rows["eps"]


class IteratedGradientAttack(GradientAttack):
    """Base of the attacks that take several steps, all of the same length."""

    steps: Steps = 20
    step: Annotated[Pixels, Field(description="length of a step, in image units")] = "2/255"

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
        """Return how far the steps lead together, in image units."""
        return self.steps * in_image_units(self.step)

    def step_length(self, rows: Rows) -> Radius:
        return in_image_units(self.step)


class Bim(IteratedGradientAttack):
    """Basic iterative method (Kurakin et al., 2017): PGD from the image itself."""

    kind: Literal["bim"] = "bim"

    @property
    def default_name(self) -> str:
        return f"bim{self.steps}"


class Pgd(IteratedGradientAttack):
    """Projected gradient descent (Madry et al., 2018) from a uniform random start in the ball.

    With the loss `margin` this is the l-infinity form of the attack of Carlini and Wagner.
    """

    kind: Literal["pgd"] = "pgd"

    @property
    def default_name(self) -> str:
        return f"pgd{self.steps}" if self.loss == "cross_entropy" else f"pgd{self.steps}_{self.loss}"

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        rows["x"] = random_start(rows["clean"], rows["eps"], self.norm, keys)


class MiFgsm(IteratedGradientAttack):
    """Momentum iterative FGSM (Dong et al., 2018, algorithm 1), from the image itself.

    The gradient, divided by its l1 norm, is added to `decay` times the sum so far; a gradient of zero adds nothing.
    diversity: the probability with which a query sees the image shrunk to between 90 and 100 % and padded with zeros
    at a random place (Xie et al., 2019), which transfers better. Such a query does not tell whether the image itself
    fools the model, so every image then runs its full length.
    """

    kind: Literal["mi_fgsm"] = "mi_fgsm"
    steps: Steps = 10
    decay: Annotated[float, Field(ge=0)] = 1.0
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def default_name(self) -> str:
        return "mi_fgsm" if not self.diversity else "mi_di_fgsm"

    @property
    def early(self) -> bool:
        return not self.diversity

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        rows["momentum"] = torch.zeros_like(rows["clean"])
        if self.diversity:  # one row of (applied, scale, shift right, shift down) a step
            draws = [key.generator("diversity").uniform(size=(self.steps, 4)) for key in keys]
            rows["diversity"] = torch.stack([torch.from_numpy(draw) for draw in draws]).to(rows["clean"])

    def query(self, model: Classifier, rows: Rows) -> Seen:
        if not self.diversity:
            return super().query(model, rows)
        index = rows["t"].clamp(max=self.steps - 1)[:, None, None].expand(-1, 1, 4)
        draws = rows["diversity"].gather(1, index)[:, 0]  # (N, 4)
        return super().query(lambda x: model(_diverse(x, draws, self.diversity)), rows)

    def direction(self, rows: Rows, gradient: Tensor) -> Tensor:
        size = gradient.abs().flatten(1).sum(1)[:, None, None, None]
        normalised = torch.where((size > 0) & size.isfinite(), gradient / size, 0)
        rows["momentum"] = self.decay * rows["momentum"] + normalised
        return steepest(rows["momentum"], self.norm)


def _diverse(x: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Shrink and shift each image, or leave it: (N, C, H, W), draws (N, 4) in [0, 1]."""
    applied = draws[:, 0] < probability
    scale = 0.9 + 0.1 * draws[:, 1]
    shift = (2 * draws[:, 2:] - 1) * (1 - scale)[:, None]  # of the centre, in halves of a side
    theta = torch.zeros(len(x), 2, 3, dtype=x.dtype, device=x.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -shift / scale[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    return torch.where(applied[:, None, None, None], moved, x)


def fgsm(model: Classifier, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Fast gradient sign method (Goodfellow et al., 2015): one step of eps, from the image itself.

    images: (N, C, H, W) in [0, 1]. labels: (N,). eps: in image units, e.g. 8/255.
    Returns the adversarial images, same shape. Raises AttackError if images leave [0, 1].
    """
    check_box(images)
    gradient, _ = input_gradient(model, images, labels)
    return project(images + eps * gradient.sign(), images, eps)


def n_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, *, eps: float, step: float, generator: torch.Generator
) -> Tensor:
    """Noise-FGSM (de Jorge et al., 2022): one step from uniform noise of twice eps, not projected onto the ball.

    For training alone: the images leave the ball of radius eps, though not [0, 1]. Arguments as in `pgd`.
    """
    check_box(images)
    noisy = images + torch.empty_like(images).uniform_(-2 * eps, 2 * eps, generator=generator)
    gradient, _ = input_gradient(model, noisy, labels)
    return (noisy + step * gradient.sign()).clamp_(0, 1)


def pgd(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Projected gradient descent in the l-infinity ball (Madry et al., 2018), on the cross-entropy, in full length.

    For training; `robnet_zoo.attacks.run` with `Pgd` is the one that measures robustness.
    images: (N, C, H, W) in [0, 1]. labels: (N,). eps, step: in image units, e.g. 8/255 and 2/255.
    generator: of the uniform random start in the ball, which is clamped to [0, 1]; None starts at the images.
    Returns the last iterates, same shape. Raises AttackError if images leave [0, 1].
    """
    check_box(images)
    adversarial = images
    if generator is not None:
        start = torch.empty_like(images).uniform_(-eps, eps, generator=generator)
        adversarial = project(images + start, images, eps)
    for _ in range(steps):
        gradient, _ = input_gradient(model, adversarial, labels)
        adversarial = project(adversarial + step * gradient.sign(), images, eps)
    return adversarial


def input_gradient(model: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of the summed cross-entropy with respect to the images, logits): (N, C, H, W), (N, K)."""
    return loss_gradient(model, images, LOSSES["cross_entropy"], labels, torch.full_like(labels, -1))
