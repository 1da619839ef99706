"""The images, labels and radii that attacks are given: taken if they can only mean one thing, else refused."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING

from robnet_zoo.attacks.ball import Norm
from robnet_zoo.core import lazy
from robnet_zoo.core.documents import shown
from robnet_zoo.errors import AttackError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64")
SLACK = 1e-6  # relative, of the largest radius: the rounding of float32


def check_images(images: Tensor) -> None:
    """Raise AttackError unless images are floating-point numbers (N, C, H, W) in [0, 1]; NaN is not."""
    if not isinstance(images, torch.Tensor) or not images.is_floating_point() or images.ndim != 4:
        raise AttackError(f"expected images (N, C, H, W) of floating-point numbers, got {described(images)}")
    if not images.numel():
        return
    low, high = images.detach().aminmax()
    if not (low >= 0 and high <= 1):
        raise AttackError(f"expected images in [0, 1], got values from {low:.3g} to {high:.3g}")


def check_classifier(classifier: object) -> None:
    """Raise AttackError for what is not a classifier, or a module whose answers would change it.

    In training mode batch norms learn from adversarial images and depend on the batch, and dropout is random.
    """
    if not callable(classifier):
        raise AttackError(f"expected a model that gives logits, got {type(classifier).__name__}")
    parts = classifier.modules() if isinstance(classifier, torch.nn.Module) and classifier.training else ()
    changing = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)
    if any(part.training and isinstance(part, changing) for part in parts):
        raise AttackError("expected a model in eval mode, got one in training mode; model.eval() sets it")


def check_number(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raise AttackError unless an argument is an integer, from `least` to `most` if that is given."""
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not (fits and least <= value and (most is None or value <= most)):  # type: ignore[operator]
        limits = f"of {least} or more" if most is None else f"from {least} to {most:,}"
        raise AttackError(f"expected {name} as an integer {limits}, got {shown(value)}")


def class_numbers(labels: Tensor, images: Tensor, *, name: str = "labels") -> Tensor:
    """Return labels or targets as int64, (N,), beside the images.

    Args:
        labels: integers of any type, (N,) or (N, 1), on any device.
        images: (N, C, H, W).
        name: what messages call them.

    Raises: AttackError for anything else.
    """
    count = len(images)
    integers = isinstance(labels, torch.Tensor) and str(labels.dtype).removeprefix("torch.") in INTEGERS
    if not integers or labels.shape not in ((count,), (count, 1)):
        raise AttackError(f"expected {name} ({count},) of integers, one an image, got {described(labels)}")
    return labels.detach().reshape(count).to(images.device, torch.int64)


def radii(eps: float | Tensor, images: Tensor, *, norm: Norm, minimal: bool = False) -> Tensor:
    """Return the radius of each image's ball in image units, (N,).

    Args:
        eps: a number, or (N,).
        images: (N, C, H, W).
        norm: of the balls.
        minimal: whether the attack looks for the nearest image, so that eps only decides whether it counts.

    Raises: AttackError for NaN, for a radius below 0 and, unless `minimal`, for one with which any image is in the
        ball: beyond 1 in linf, beyond the diagonal of the box in l2.
    """
    wrong = f"expected eps as a number in image units, got {shown(eps)}"
    try:
        given = torch.as_tensor(float(eps) if isinstance(eps, Real) else eps).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AttackError(wrong) from error
    if given.is_complex():
        raise AttackError(wrong)
    given = given.to(images)
    if given.shape not in ((), (len(images),)):
        shape = tuple(given.shape)
        raise AttackError(f"expected eps as a number or ({len(images)},), one an image, got the shape {shape}")
    largest = math.inf if minimal else 1.0 if norm == "linf" else math.sqrt(images[0].numel() if len(images) else 0)
    strange = given[~((given >= 0) & (given <= largest * (1 + SLACK)))]  # NaN too
    if len(images) and strange.numel():
        limits = "from 0 on" if minimal else f"from 0 to {largest:.4g}"
        too_large = bool(strange[0] > largest)
        why = "; a larger ball holds every image" if too_large and not minimal else ""
        usual = {"linf": "8/255", "l2": "0.5"}[norm]
        raise AttackError(f"expected eps in image units ({norm}, such as {usual}), {limits}, got {strange[0]:.6g}{why}")
    return given.expand(len(images))


def check_lengths(**lengths: float) -> None:
    """Raise AttackError unless lengths in image units, by name, are from 0 to 1; NaN is not."""
    for name, length in lengths.items():
        if not (isinstance(length, int | float) and 0 <= length <= 1):
            raise AttackError(f"expected {name} in image units, such as 8/255, from 0 to 1, got {length!r}")


def described(value: object) -> str:
    """Return the type of a value, and of a tensor its dtype and shape, in words."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__
