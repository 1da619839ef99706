"""The fast gradient sign method (Goodfellow et al., 2015), and its noisy form for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from robnet_zoo.attacks.arguments import check_images, check_lengths, class_numbers
from robnet_zoo.attacks.attack import Classifier, Rows
from robnet_zoo.attacks.ball import Radius, project
from robnet_zoo.attacks.gradient import GradientAttack, input_gradient
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")


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


def fgsm(model: Classifier, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Attack by the fast gradient sign method (Goodfellow et al., 2015): one step of eps from the image itself.

    Args:
        model: gives logits (N, K).
        images: (N, C, H, W) in [0, 1].
        labels: integers of any type, (N,) or (N, 1).
        eps: in image units, e.g. 8/255.

    Returns:
        The adversarial images, same shape.

    Raises:
        AttackError: images leave [0, 1], labels are not integers, or a length is not from 0 to 1.
    """
    check_images(images)
    check_lengths(eps=eps)
    gradient, _ = input_gradient(model, images, class_numbers(labels, images))
    return project(images + eps * gradient.sign(), images, eps)


def n_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, *, eps: float, step: float, generator: torch.Generator
) -> Tensor:
    """Attack by N-FGSM (de Jorge et al., 2022): one step from uniform noise of twice eps, without a projection.

    It is for training alone: the images leave the ball of radius eps, though not [0, 1].

    Args:
        model: gives logits (N, K).
        images: (N, C, H, W) in [0, 1].
        labels: integers of any type, (N,) or (N, 1).
        eps, step: in image units, e.g. 8/255 and 10/255.
        generator: of the noise.

    Returns:
        The images, same shape.

    Raises:
        AttackError: images leave [0, 1], labels are not integers, or a length is not from 0 to 1.
    """
    check_images(images)
    check_lengths(eps=eps, step=step)
    noisy = images + torch.empty_like(images).uniform_(-2 * eps, 2 * eps, generator=generator)
    gradient, _ = input_gradient(model, noisy, class_numbers(labels, images))
    return (noisy + step * gradient.sign()).clamp_(0, 1)
