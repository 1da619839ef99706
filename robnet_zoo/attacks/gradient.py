"""First-order attacks in the l-infinity ball. Only the input's gradient is ever computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Classifier = Callable[[Tensor], Tensor]  # (N, C, H, W) in [0, 1] -> logits (N, K)


def fgsm(model: Classifier, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Fast gradient sign method (Goodfellow et al., 2015): one step of eps, from the image itself.

    images: (N, C, H, W) in [0, 1]. labels: (N,). eps: in image units, e.g. 8/255.
    Returns the adversarial images, same shape. Raises ValueError if images leave [0, 1].
    """
    _check(images)
    gradient, _ = input_gradient(model, images, labels)
    return project(images + eps * gradient.sign(), images, eps)


def n_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, *, eps: float, step: float, generator: torch.Generator
) -> Tensor:
    """Noise-FGSM (de Jorge et al., 2022): one step from uniform noise of twice eps, not projected onto the ball.

    For training alone: the images leave the ball of radius eps, though not [0, 1]. Arguments as in `pgd`.
    """
    _check(images)
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
    until_fooled: bool = False,
) -> Tensor:
    """Projected gradient descent in the l-infinity ball (Madry et al., 2018), on the cross-entropy.

    images: (N, C, H, W) in [0, 1]. labels: (N,). eps, step: in image units, e.g. 8/255 and 2/255.
    generator: of the uniform random start in the ball, which is clamped to [0, 1]; None starts at the images.
    until_fooled: an image that the model already gets wrong is left as it is, so that no later step can undo it.
    Returns the last iterates, same shape. Raises ValueError if images leave [0, 1].
    """
    _check(images)
    adversarial = images
    if generator is not None:
        start = torch.empty_like(images).uniform_(-eps, eps, generator=generator)
        adversarial = project(images + start, images, eps)
    for _ in range(steps):
        gradient, logits = input_gradient(model, adversarial, labels)
        moved = project(adversarial + step * gradient.sign(), images, eps)
        if until_fooled:
            fooled = (logits.argmax(1) != labels)[:, None, None, None]
            moved = torch.where(fooled, adversarial, moved)
        adversarial = moved
    return adversarial


def input_gradient(model: Classifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of the summed cross-entropy with respect to the images, logits): (N, C, H, W), (N, K)."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient, logits.detach()


def project(adversarial: Tensor, images: Tensor, eps: float) -> Tensor:
    """The nearest point of the l-infinity ball of radius eps around the images, inside [0, 1]."""
    return torch.min(torch.max(adversarial, images - eps), images + eps).clamp_(0, 1)


def _check(images: Tensor) -> None:
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"expected images in [0, 1], got values from {low:.3g} to {high:.3g}")
