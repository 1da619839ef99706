"""A node of an ONNX graph, and what its operator in torch is: a function of the node and its inputs.

Integers that do not depend on the image, such as sizes and positions, are tensors of integers. Integers that depend on
it, such as quantised activations, are whole numbers in a floating-point tensor, so that they carry gradients: those of
8 and 16 bits in float32, those of 32 and 64 bits in float64, which hold all of them exactly, or up to 2^53. A gradient
passes the rounding that made them as if it were the identity (straight-through: Bengio et al., 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.autograd.function import FunctionCtx

from robnet_zoo.errors import UnsupportedError

MICROSOFT = "com.microsoft"  # the domain of the operators that ONNX Runtime's optimiser and quantiser write
MAX_NUMBERS = 2**31  # in a tensor that a graph makes of its own


@dataclass(frozen=True)
class OnnxNode:
    """An operator in a graph.

    Args:
        kind: its name; of another domain than the standard's, with the domain in front, as in com.microsoft.QGemm.
        inputs: their names, '' if one is left out.
        outputs: their names.
        attributes: by name.
        opset: the version of its domain.
        types: ONNX's numbers of the inputs' types, 0 if one is unknown or left out.
        on_image: whether it is computed from the image's values, and not only from constants and sizes.
        rounds: whether quantisers round; without that, they saturate only.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    types: tuple[int, ...] = ()
    on_image: bool = True
    rounds: bool = True

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or its default."""
        return self.attributes.get(name, default)

    def type(self, position: int) -> int:
        """Return ONNX's number of the type of an input, 0 if it is unknown or the input is left out."""
        return self.types[position] if position < len(self.types) else 0

    def numbers(self, name: str, inputs: Sequence[Tensor | None], position: int) -> list[int]:
        """Return integers that are an attribute in early versions of the standard and an input in later ones, or [].

        Args:
            name: of the attribute.
            inputs: of the node.
            position: of the integers among the inputs.
        """
        if name in self.attributes:
            return list(self.attributes[name])
        given = optional(inputs, position)
        return [] if given is None else given.flatten().long().tolist()

    def refuse(self, what: str) -> UnsupportedError:
        """Return the error that says that this operator is not known in such a form."""
        return UnsupportedError(f"no gradient is known for the ONNX operator {self.kind} {what}")


Operator = Callable[[OnnxNode, list[Tensor]], Tensor | tuple[Tensor, ...]]


def optional(inputs: Sequence[Tensor | None], position: int) -> Tensor | None:
    """Return the input at a position, or None if it is left out."""
    return inputs[position] if position < len(inputs) else None


def unary(function: Callable[..., Tensor], **defaults: float | str) -> Operator:
    """Return function(x, *attributes) as an operator; the attributes have these defaults."""
    return lambda node, inputs: function(inputs[0], *(node.get(name, value) for name, value in defaults.items()))


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return a function of two tensors as an operator."""
    return lambda node, inputs: function(inputs[0], inputs[1])


def bounded(shape: Iterable[int]) -> list[int]:
    """Return a shape. Raises UnsupportedError if a tensor of this shape would fill gigabytes."""
    sizes = [int(size) for size in shape]
    if prod(sizes) > MAX_NUMBERS:
        raise UnsupportedError(f"expected tensors of at most {MAX_NUMBERS:,} numbers, got one of {sizes}")
    return sizes


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return `value`, of x's shape and type, with the gradient of x."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return value
    result: Tensor = _StraightThrough.apply(x, value.detach())
    return result


def rounded(x: Tensor) -> Tensor:
    """Return x rounded to the nearest integer, halves to the even one, with x's gradient."""
    return straight_through(x, x.detach().round())


# Types

NARROW_INTEGERS: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    getattr(TensorProto, "INT2", -1): (-2, 1),  # since onnx 1.20
    getattr(TensorProto, "UINT2", -2): (0, 3),
}
WIDE_INTEGERS = (TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64)
FLOAT8: dict[int, torch.dtype] = {
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}
FLOAT4 = getattr(TensorProto, "FLOAT4E2M1", -3)  # since onnx 1.18
FLOAT4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
POWERS = getattr(TensorProto, "FLOAT8E8M0", -4)  # of two, from 2^-127 to 2^127, or NaN; since onnx 1.19
NARROW_FLOATS = frozenset({*FLOAT8, FLOAT4, POWERS})
UNSIGNED: dict[int, torch.dtype] = {
    TensorProto.UINT16: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
}


def is_integer_type(kind: int) -> bool:
    """Return whether ONNX's number of a type is that of integers."""
    return kind in NARROW_INTEGERS or kind in WIDE_INTEGERS


def torch_type(kind: int) -> torch.dtype:
    """Return the type in which torch holds constants of a type, by ONNX's number. Raises UnsupportedError.

    Types of fewer than eight bits are held in wider ones, and floating-point numbers of up to eight bits in float32;
    unsigned integers of more than eight bits, with which torch does not compute, in signed ones.
    """
    if kind == TensorProto.BFLOAT16:
        return torch.bfloat16
    if kind in NARROW_FLOATS:
        return torch.float32
    if kind in UNSIGNED:
        return UNSIGNED[kind]
    if kind in NARROW_INTEGERS and kind != TensorProto.INT16:
        return torch.int8 if NARROW_INTEGERS[kind][0] < 0 else torch.uint8
    try:
        return torch.from_numpy(np.zeros(1, helper.tensor_dtype_to_np_dtype(kind))).dtype
    except (TypeError, KeyError, ValueError) as error:
        raise UnsupportedError(f"expected numbers of a type that torch has, got ONNX's type {kind}") from error


def held_type(kind: int) -> torch.dtype:
    """Return the floating-point type that holds integers of a type, by ONNX's number, with gradients."""
    return torch.float64 if kind in WIDE_INTEGERS else torch.float32


def held(x: Tensor) -> Tensor:
    """Return integers as whole numbers in a floating-point type; other tensors as they are."""
    if x.is_floating_point():
        return x
    return x.to(torch.float64 if x.dtype in (torch.int32, torch.int64) else torch.float32)


def positions(x: Tensor) -> Tensor:
    """Return whole numbers, of whatever type, as int64."""
    return x.detach().long() if x.is_floating_point() else x.long()
