"""Projected gradient descent (Madry et al., 2018), and a plain function of it for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from robnet_zoo.attacks.arguments import check_images, check_lengths, class_numbers
from robnet_zoo.attacks.attack import Classifier, Rows
from robnet_zoo.attacks.ball import project, random_start
from robnet_zoo.attacks.gradient import IteratedGradientAttack, input_gradient
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")


class Pgd(IteratedGradientAttack):
    """Projected gradient descent (Madry et al., 2018) from a uniform random start in the ball.

    With the loss `margin` this is the l-infinity form of the attack of Carlini and Wagner.
    """

    kind: Literal["pgd"] = "pgd"

    @property
    def default_name(self) -> str:
        return f"pgd{self.steps}" if self.loss == "cross_entropy" else f"pgd{self.steps}_{self.loss}"

    @property
    def is_random(self) -> bool:
        return True

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        rows["x"] = random_start(rows["clean"], rows["eps"], self.norm, keys)


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
    """Attack by projected gradient descent on the cross-entropy in the l-infinity ball (Madry et al., 2018).

    Every image takes all steps. This is for training; `robnet_zoo.attacks.run` with `Pgd` measures robustness.

    Args:
        model: gives logits (N, K).
        images: (N, C, H, W) in [0, 1].
        labels: integers of any type, (N,) or (N, 1).
        eps, step: in image units, e.g. 8/255 and 2/255.
        steps: how many.
        generator: of the uniform random start in the ball, clamped to [0, 1]; None starts at the images.

    Returns:
        The last iterates, same shape.

    Raises:
        AttackError: images leave [0, 1], labels are not integers, or a length is not from 0 to 1.
    """
    check_images(images)
    check_lengths(eps=eps, step=step)
    labels = class_numbers(labels, images)
    adversarial = images
    if generator is not None:
        start = torch.empty_like(images).uniform_(-eps, eps, generator=generator)
        adversarial = project(images + start, images, eps)
    for _ in range(steps):
        gradient, _ = input_gradient(model, adversarial, labels)
        adversarial = project(adversarial + step * gradient.sign(), images, eps)
    return adversarial
