"""The threat model: a ball around the image, cut by the box [0, 1]. eps is a number or (N, 1, 1, 1), in image units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from robnet_zoo.attacks.random import Key, normal, uniform
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

Norm = Literal["linf", "l2"]
Radius: TypeAlias = "float | Tensor"
TOLERANCE = 1e-6  # relative beyond 1, else in image units: the rounding of float32 near 1


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each row: (N, C, H, W) -> (N,)."""
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.square().sum(1).sqrt()


def within(distances: Tensor, eps: Radius) -> Tensor:
    """Return which distances are at most eps, up to rounding; NaN is not.

    distances: in image units, any shape. eps: a number or the same shape. Returns bool of that shape.
    """
    return distances <= eps + TOLERANCE * torch.as_tensor(eps).clamp(min=1)


def in_box(images: Tensor) -> Tensor:
    """Return which images, (N, C, H, W), lie in [0, 1]: bool (N,). NaN does not."""
    return ((images >= 0) & (images <= 1)).flatten(1).all(1)


def project(adversarial: Tensor, images: Tensor, eps: Radius, norm: Norm = "linf") -> Tensor:
    """Return the nearest point of the ball, clamped to [0, 1]. It stays in the ball, as the images are in [0, 1].

    Args:
        adversarial: the points, (N, C, H, W).
        images: the centres of the balls, (N, C, H, W) in [0, 1].
        eps: the radius in image units, a number or (N, 1, 1, 1).
        norm: of the ball.
    """
    if norm == "linf":
        return torch.min(torch.max(adversarial, images - eps), images + eps).clamp_(0, 1)
    delta = adversarial - images
    size = length(delta, norm)[:, None, None, None].clamp(min=1e-12)
    return (images + delta * (eps / size).clamp(max=1)).clamp_(0, 1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the step of length 1 in the norm along which the loss grows fastest: (N, C, H, W).

    Rows whose gradient is zero or not finite get zero; in l-infinity, NaN stays NaN.
    """
    if norm == "linf":
        return gradient.sign()
    peak = length(gradient, "linf")[:, None, None, None]
    scaled = gradient / peak  # whose square neither vanishes nor overflows, however flat or steep the loss
    size = length(scaled, norm)[:, None, None, None]
    return torch.where((peak > 0) & peak.isfinite(), scaled / size, 0)


def random_start(images: Tensor, eps: Radius, norm: Norm, keys: Sequence[Key]) -> Tensor:
    """Return points drawn uniformly from the ball, clamped to [0, 1]: (N, C, H, W).

    Args:
        images: the centres of the balls, (N, C, H, W) in [0, 1].
        eps: the radius in image units, a number or (N, 1, 1, 1).
        norm: of the ball.
        keys: of the random numbers, one a row.
    """
    if norm == "linf":
        return project(images + eps * uniform(keys, images, "start"), images, eps)
    direction = steepest(normal(keys, images, "start"), norm)
    dimensions = images[0].numel()
    radius = (uniform(keys, images[:, :1, :1, :1], "radius") * 0.5 + 0.5) ** (1 / dimensions)
    return project(images + eps * radius * direction, images, eps, norm)
