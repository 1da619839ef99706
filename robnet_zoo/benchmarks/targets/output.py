"""What of a module's output counts as logits, where it gives more than them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robnet_zoo.data.images import channels_advice
from robnet_zoo.errors import RobnetZooError, TargetError

SHOWN = 6  # parts of an output that a message lists


class Choice(NamedTuple):
    """The logits, (N, K), and in words which part of the output they are; no words for an output that is (N, K)."""

    logits: Tensor
    words: str


class Logits(nn.Module):
    """A module as a classifier that gives logits alone, (N, K), and leaves its images as they are.

    Args:
        module: it may give a tuple, a dict or an object with logits in it, and may write into its input.
        name: of the target, for messages.
        num_classes: K, if it is known.
    """

    def __init__(self, module: nn.Module, *, name: str, num_classes: int | None) -> None:
        super().__init__()
        self.module, self.name, self.num_classes = module, name, num_classes
        self.training = getattr(module, "training", False)  # the module keeps its mode; a frozen script has none

    def choice(self, images: Tensor) -> Choice:
        """Return the logits of images (N, C, H, W), and what they are.

        Raises: TargetError if there are none, or the module does not take the images.
        """
        try:
            output = self.module(images.clone())  # which it may write into
        except (RobnetZooError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a module of others raises
            raise not_taken(self.name, images, error) from error
        if isinstance(output, Tensor) and _fits(output, len(images), None) and output.ndim == 2:
            return Choice(output, "")
        return _chosen(output, len(images), self.num_classes, name=self.name)

    def forward(self, images: Tensor) -> Tensor:
        return self.choice(images).logits


def not_taken(name: str, images: Tensor, error: Exception) -> TargetError:
    """Return the error of a target that raised one of its own.

    Args:
        name: of the target.
        images: that it was given, (N, C, H, W).
        error: what it raised.
    """
    count, *shape = images.shape
    got = f"{error} ({count} at once){channels_advice(shape[0], 3)}"
    return TargetError(f"{name}: expected a model of images {tuple(shape)}, got: {got}")


def _chosen(output: Any, count: int, num_classes: int | None, *, name: str) -> Choice:
    """Return the part of an output that is logits: `logits`, or the first of a sequence, or the only one of others.

    A part has to be (N, K) or (N, K, 1, 1) with K = `num_classes`, if that is known and there is such a part.
    """
    if isinstance(output, Tensor):
        if _fits(output, count, None):
            return Choice(
                output.flatten(1), f"its output, {tuple(output.shape)}, counts as logits without the last axes"
            )
        raise TargetError(f"{name}: expected logits (N, K) with K of 2 or more, got {_described(output)}")
    ordered = isinstance(output, tuple | list)
    parts = dict(_parts(output))
    for classes in dict.fromkeys((num_classes, None)):
        fitting = [key for key, part in parts.items() if _fits(part, count, classes)]
        if fitting and ("logits" in fitting or ordered or len(fitting) == 1):
            key = "logits" if "logits" in fitting else fitting[0]
            words = f"of its output, {_listed(output, parts)}, `{key}` counts as logits"
            return Choice(parts[key].flatten(1), words)
    expected = "expected logits (N, K) with K of 2 or more, or an output with them as `logits` or as its only such part"
    raise TargetError(f"{name}: {expected}, got {_listed(output, parts)}")


def _parts(output: Any) -> Iterable[tuple[str, Any]]:
    """Yield the parts of an output by name; those of a tuple without names have their positions."""
    if isinstance(output, Mapping):
        return [(str(key), part) for key, part in output.items()]
    if isinstance(output, tuple | list):
        return zip(getattr(output, "_fields", map(str, range(len(output)))), output, strict=True)
    parts = dict(vars(output)) if hasattr(output, "__dict__") else {}
    if hasattr(output, "logits"):  # also where it is a property or a slot
        parts["logits"] = output.logits
    return parts.items()


def _fits(part: Any, count: int, num_classes: int | None) -> bool:
    if not (isinstance(part, Tensor) and part.is_floating_point() and part.ndim >= 2 and len(part) == count):
        return False
    classes, *rest = part.shape[1:]
    return classes >= 2 and all(side == 1 for side in rest) and num_classes in (None, classes)


def _listed(output: Any, parts: Mapping[str, Any]) -> str:
    listed = [f"{key} {_described(part)}" for key, part in parts.items()]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"{type(output).__name__}({', '.join(listed[:SHOWN])}{more})" if listed else type(output).__name__


def _described(part: Any) -> str:
    if not isinstance(part, Tensor):
        return type(part).__name__
    dtype = "" if part.is_floating_point() else f"{str(part.dtype).removeprefix('torch.')} "
    return f"{dtype}{tuple(part.shape)}"
