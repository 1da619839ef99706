"""Quantised operators: the file's own integers in the forward pass, straight-through estimates in the backward pass.

Sums of products of integers are exact. Where one could leave the integers that float32 holds, it is computed in parts
that cannot, and these are added in float64. Sums are then scaled and rounded as ONNX Runtime does it on a CPU: times
x_scale * w_scale / y_scale in float32, bounds applied, halves rounded to the even integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from onnx import TensorProto
from torch import Tensor

from robnet_zoo.converters.onnx.operators.convolution import convolve
from robnet_zoo.converters.onnx.operators.node import (
    MICROSOFT,
    NARROW_FLOATS,
    NARROW_INTEGERS,
    OnnxNode,
    Operator,
    held,
    optional,
    torch_type,
)
from robnet_zoo.converters.onnx.operators.pooling import average_pool
from robnet_zoo.converters.onnx.operators.rounding import narrow_float, narrow_integers

EXACT = 2**24  # float32 holds every integer up to it
BYTE = 255  # the largest distance of two integers of eight bits


# To integers and back


def _quantize(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, scale, zero_point = inputs[0], inputs[1], optional(inputs, 2)
    kind = node.type(2) if zero_point is not None else node.get("output_dtype", 0) or TensorProto.UINT8
    scale, zero_point = _spread(node, x, scale), None if zero_point is None else _spread(node, x, held(zero_point))
    wide = torch.promote_types(scale.dtype, torch.float32)  # in which ONNX Runtime divides
    units = held(x).to(wide) / scale.to(wide)
    if kind in NARROW_FLOATS:
        return narrow_float(units.float(), kind, saturate=bool(node.get("saturate", 1)), rounds=node.rounds)
    return narrow_integers(units, zero_point, kind, rounds=node.rounds)


def _dequantize(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, scale, zero_point = inputs[0], inputs[1], optional(inputs, 2)
    units = held(x)
    if zero_point is not None:
        units = units - _spread(node, x, held(zero_point)).to(units.dtype)
    kind = node.get("output_dtype", 0)
    dtype = torch_type(kind) if kind else scale.dtype
    wide = torch.promote_types(scale.dtype, dtype)
    return (units.to(wide) * _spread(node, x, scale).to(wide)).to(dtype)


def _spread(node: OnnxNode, x: Tensor, values: Tensor) -> Tensor:
    """Return scales or zero points in a shape that broadcasts to x's: one for all, for each entry of an axis, or for
    each block of entries."""
    if values.numel() == 1 and values.dim() <= 1:
        return values.reshape(())
    axis = node.get("axis", 1) % x.dim()
    block = node.get("block_size", 0)
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return _along(values, axis, x.dim()) if values.dim() == 1 else values


def _along(values: Tensor, axis: int, count: int) -> Tensor:
    """Return numbers for the entries of an axis in a shape that broadcasts to tensors of so many axes."""
    return values.reshape([-1 if i == axis % count else 1 for i in range(count)])


def _dynamic_quantize(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return dynamic_bytes(node, inputs[0])


def dynamic_bytes(node: OnnxNode, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x as unsigned bytes over its own range, which includes 0, with their scale and zero point.

    The scale has no gradient: it cancels where the bytes are turned back.
    """
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / BYTE
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = (-low / scale).clamp(0, BYTE).round()
    return narrow_integers(x / scale, zero_point, TensorProto.UINT8, rounds=node.rounds), scale, zero_point


# Sums of products


def _exact_convolution(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a convolution of whole numbers of 8 bits with nothing lost.

    Args:
        node: with its attributes.
        x: whole numbers at most BYTE from 0, (N, C, ...).
        weight: whole numbers.
        bias: whole numbers.
    """
    extra = 0 if bias is None else bias.abs()
    parts = _parts(lambda w: w.abs().flatten(1).sum(1) * BYTE + extra, weight)
    if parts == 1:
        return convolve(node, x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    if parts == 0 or node.get("group", 1) > 1:  # a single channel may leave them
        return convolve(node, x.double(), weight.double(), None if bias is None else bias.double())
    width = -(-weight.shape[1] // parts)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for some, filters in zip(x.split(width, 1), weight.split(width, 1), strict=True):
        total = total + convolve(node, some, filters.to(x.dtype), None).double()
    return total if bias is None else total + _along(bias.double(), 1, x.dim())


def _parts(largest: Callable[[Tensor], Tensor], weight: Tensor) -> int:
    """Return in how many parts of its second axis weights give sums that float32 holds; 0 if no number is enough.

    Args:
        largest: gives bounds of the sums with some weights.
        weight: whole numbers.
    """
    parts = 1
    while parts <= weight.shape[1]:
        width = -(-weight.shape[1] // parts)
        if all(bool(largest(some).max() <= EXACT) for some in weight.split(width, 1)):
            return -(-weight.shape[1] // width)
        parts *= 2
    return 0


def _exact_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a matrix product of whole numbers of 8 bits, (..., M, K) and (..., K, N), with nothing lost."""
    shared = b.shape[-2] if b.dim() > 1 else len(b)
    if shared * BYTE * BYTE <= EXACT:
        return a @ b.to(a.dtype)
    if b.dim() < 2 or a.dim() < 2 or b.shape[:-2].numel() > 1:  # as in attention, where both depend on the image
        return a.double() @ b.double()
    parts = _parts(lambda w: w.abs().sum(1) * BYTE, b.reshape(b.shape[-2:]).t())
    if parts in (0, 1):
        return a @ b.to(a.dtype) if parts else a.double() @ b.double()
    width = -(-shared // parts)
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for some, columns in zip(a.split(width, -1), b.split(width, -2), strict=True):
        total = total + (some @ columns.to(a.dtype)).double()
    return total


def _centred(x: Tensor, zero_point: Tensor | None, axis: int | None = None) -> Tensor:
    """Return integers as their distances from their zero point.

    Args:
        x: integers, or whole numbers that hold them.
        zero_point: one for all, or for each entry of an axis.
        axis: that axis.
    """
    x = held(x)
    if zero_point is None:
        return x
    zero_point = held(zero_point).to(x.dtype)
    if zero_point.numel() > 1 and zero_point.dim() == 1 and axis is not None:
        zero_point = _along(zero_point, axis, x.dim())
    return x - (zero_point.reshape(()) if zero_point.numel() == 1 else zero_point)


def _per_channel(scale: Tensor, axis: int, count: int) -> Tensor:
    return _along(scale, axis, count) if scale.dim() == 1 and scale.numel() > 1 else scale.reshape(())


def _qlinear_conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = inputs[:8]
    bias = optional(inputs, 8)
    last = bool(node.get("channels_last", 0))  # of com.microsoft's form
    x = x.movedim(-1, 1) if last else x
    sums = _exact_convolution(node, _centred(x, x_zero), _centred(w, w_zero, 0), None if bias is None else held(bias))
    scale = _per_channel((x_scale * w_scale) / y_scale, 1, x.dim())
    y = narrow_integers(sums.to(scale.dtype) * scale, _scalar(y_zero), _kind(node, 7), rounds=node.rounds)
    return y.movedim(1, -1) if last else y


def _scalar(zero_point: Tensor | None) -> Tensor | None:
    return None if zero_point is None else held(zero_point).reshape(()).float()


def _kind(node: OnnxNode, position: int, like: int = 0) -> int:
    """Return ONNX's number of the type of quantised results: that of their zero point, or else that of an input."""
    return node.type(position) or (node.type(like) if node.type(like) in NARROW_INTEGERS else 0) or TensorProto.UINT8


def _conv_integer(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, w = inputs[:2]
    return _exact_convolution(node, _centred(x, optional(inputs, 2)), _centred(w, optional(inputs, 3), 0))


def _matmul_integer(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = inputs[:2]
    return _exact_product(_centred(a, optional(inputs, 2), -2), _centred(b, optional(inputs, 3), -1))


def _qlinear_matmul(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    sums = _exact_product(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    scale = _per_channel(a_scale, -2, 2) * b_scale / y_scale
    return narrow_integers(sums.to(scale.dtype) * scale, _scalar(y_zero), _kind(node, 7), rounds=node.rounds)


# Operators of ONNX Runtime


def _read(inputs: list[Tensor], position: int) -> Tensor:
    """Return the numbers that three inputs stand for: integers, their scale and their zero point."""
    return _centred(inputs[position], optional(inputs, position + 2)) * inputs[position + 1]


def _written(node: OnnxNode, inputs: list[Tensor], y: Tensor, position: int, like: int = 0) -> Tensor:
    """Return numbers as integers, whose scale and zero point are two inputs.

    Args:
        node: has the inputs' types.
        inputs: of the node.
        y: the numbers.
        position: of the scale among the inputs; the zero point follows.
        like: the input whose type the integers have if there is no zero point.
    """
    zero_point = _scalar(optional(inputs, position + 1))
    return narrow_integers(y / inputs[position], zero_point, _kind(node, position + 1, like), rounds=node.rounds)


def _qlinear_add(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = held(inputs[0]), held(inputs[3])
    a_ratio, b_ratio = inputs[1] / inputs[6], inputs[4] / inputs[6]
    a_zero, b_zero, y_zero = (_scalar(optional(inputs, i)) for i in (2, 5, 7))
    # ONNX Runtime's order of operations: all zero points are added first, and products are not rounded before sums.
    none = torch.zeros_like(a_ratio)
    offset = _multiplied_and_added(
        none if a_zero is None else a_zero, a_ratio, none if b_zero is None else b_ratio * b_zero
    )
    fixed = (none if y_zero is None else y_zero) - offset
    y = _multiplied_and_added(a, a_ratio, _multiplied_and_added(b, b_ratio, fixed))
    return narrow_integers(y, None, _kind(node, 7), rounds=node.rounds)


def _multiplied_and_added(x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    """Return x * factor + summand, rounded once, as processors compute it."""
    exact = x.double() * factor.double() + summand
    return exact.to(factor.dtype)


def _qlinear_mul(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    product = _centred(inputs[0], optional(inputs, 2)) * _centred(inputs[3], optional(inputs, 5))
    scale = inputs[1] * inputs[4] / inputs[6]
    return narrow_integers(product * scale, _scalar(optional(inputs, 7)), _kind(node, 7), rounds=node.rounds)


def _qlinear_concat(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    parts = [_read(inputs, i) for i in range(2, len(inputs), 3)]
    kind = _kind(node, 1)
    pieces = [narrow_integers(part / inputs[0], _scalar(inputs[1]), kind, rounds=node.rounds) for part in parts]
    return torch.cat(pieces, dim=node.attributes["axis"])


def _qlinear_average_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = _centred(inputs[0], optional(inputs, 2)).double()  # in float32, ties would be broken by its rounding
    last = bool(node.get("channels_last", 0))
    y = average_pool(node, x.movedim(-1, 1) if last else x)
    y = (y.movedim(1, -1) if last else y) * (inputs[1].double() / inputs[3].double())
    return narrow_integers(y, _scalar(optional(inputs, 4)), _kind(node, 4), rounds=node.rounds).to(inputs[1].dtype)


def _qlinear_global_average_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = _centred(inputs[0], optional(inputs, 2))
    axes = list(range(1, x.dim() - 1) if node.get("channels_last", 0) else range(2, x.dim()))
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    scale = inputs[1] / (inputs[3] * count)
    return narrow_integers(
        x.sum(axes, keepdim=True) * scale, _scalar(optional(inputs, 4)), _kind(node, 4), rounds=node.rounds
    )


def _qlinear_leaky_relu(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    y = torch.nn.functional.leaky_relu(_read(inputs, 0), node.get("alpha", 0.01))
    return _written(node, inputs, y, 3)


def _qlinear_sigmoid(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return _written(node, inputs, torch.sigmoid(_read(inputs, 0)), 3)


def _qlinear_softmax(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, axis = _read(inputs, 0), node.get("axis", -1)
    if node.get("opset", 13) < 13:
        y = torch.softmax(x.flatten(axis % x.dim()), -1).view_as(x)
    else:
        y = torch.softmax(x, axis)
    return _written(node, inputs, y, 3)


def _qlinear_reduce_mean(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = _read(inputs, 0)
    axes = list(node.get("axes", range(x.dim())))
    return _written(node, inputs, x.mean(axes, keepdim=bool(node.get("keepdims", 1))), 3)


def _qlinear_where(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, y = (_written(node, inputs, _read(inputs, i), 7, like=i) for i in (1, 4))
    return torch.where(inputs[0] != 0, x, y)


def _qgemm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b, bias = (
        _centred(inputs[0], inputs[2]),
        _centred(inputs[3], inputs[5], 0 if node.get("transB", 0) else -1),
        optional(inputs, 6),
    )
    a = a.t() if node.get("transA", 0) else a
    b = b.t() if node.get("transB", 0) else b
    sums = _exact_product(a, b)
    sums = sums if bias is None else sums.double() + held(bias)
    scale = node.get("alpha", 1.0) * inputs[1] * inputs[4]
    y_scale = optional(inputs, 7)
    if y_scale is None:
        return sums.to(scale.dtype) * scale
    scale = scale / y_scale
    return narrow_integers(
        sums.to(scale.dtype) * scale, _scalar(optional(inputs, 8)), _kind(node, 8), rounds=node.rounds
    )


def _dynamic_quantize_matmul(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, scale, zero_point = dynamic_bytes(node, inputs[0])
    sums = _exact_product(_centred(x, zero_point), _centred(inputs[1], optional(inputs, 3), -1))
    factor = scale * inputs[2]
    y, bias = sums.to(factor.dtype) * factor, optional(inputs, 4)
    return y if bias is None else y + bias


def _matmul_integer_to_float(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = _centred(inputs[0], optional(inputs, 4)), _centred(inputs[1], optional(inputs, 5), -1)
    factor = inputs[2] * inputs[3]
    y, bias = _exact_product(a, b).to(factor.dtype) * factor, optional(inputs, 6)
    return y if bias is None else y + bias


def integer_projection(x: Tensor, weight: Tensor, scale: Tensor, zeros: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Return x @ weight of integers, scaled to the numbers that they stand for.

    Args:
        x: (..., K), whole numbers.
        weight: (K, N), integers.
        scale: of the products, one for all or (N,).
        zeros: the zero points of x and of the weight.
    """
    return _exact_product(_centred(x, zeros[0]), _centred(weight, zeros[1], -1)).to(scale.dtype) * scale


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "ConvInteger": _conv_integer,
        "DequantizeLinear": _dequantize,
        "DynamicQuantizeLinear": _dynamic_quantize,
        "MatMulInteger": _matmul_integer,
        "QLinearConv": _qlinear_conv,
        "QLinearMatMul": _qlinear_matmul,
        "QuantizeLinear": _quantize,
        f"{MICROSOFT}.DequantizeLinear": _dequantize,
        f"{MICROSOFT}.DynamicQuantizeMatMul": _dynamic_quantize_matmul,
        f"{MICROSOFT}.MatMulIntegerToFloat": _matmul_integer_to_float,
        f"{MICROSOFT}.QGemm": _qgemm,
        f"{MICROSOFT}.QLinearAdd": _qlinear_add,
        f"{MICROSOFT}.QLinearAveragePool": _qlinear_average_pool,
        f"{MICROSOFT}.QLinearConcat": _qlinear_concat,
        f"{MICROSOFT}.QLinearConv": _qlinear_conv,
        f"{MICROSOFT}.QLinearGlobalAveragePool": _qlinear_global_average_pool,
        f"{MICROSOFT}.QLinearLeakyRelu": _qlinear_leaky_relu,
        f"{MICROSOFT}.QLinearMul": _qlinear_mul,
        f"{MICROSOFT}.QLinearReduceMean": _qlinear_reduce_mean,
        f"{MICROSOFT}.QLinearSigmoid": _qlinear_sigmoid,
        f"{MICROSOFT}.QLinearSoftmax": _qlinear_softmax,
        f"{MICROSOFT}.QLinearWhere": _qlinear_where,
        f"{MICROSOFT}.QuantizeLinear": _quantize,
    }
)
