"""ONNX's operators in torch: those of image classifiers in inference form.

Each function takes a node and its inputs; None is an input that is left out. Integers are sizes and positions, and are
on the CPU. The definitions are the operators' pages in the ONNX standard, versions 7 to 24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from math import ceil, prod
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from robnet_zoo.errors import UnsupportedError


@dataclass(frozen=True)
class OnnxNode:
    """An operator in a graph, with the names of its inputs ('' if one is left out) and outputs, and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or its default."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, inputs: Sequence[Tensor | None], position: int) -> list[int]:
        """Return integers that are an attribute in early versions of the standard and an input in later ones, or [].

        Args:
            name: of the attribute.
            inputs: of the node.
            position: of the integers among the inputs.
        """
        if name in self.attributes:
            return list(self.attributes[name])
        given = _optional(inputs, position)
        return [] if given is None else given.tolist()


Operator = Callable[[OnnxNode, list[Tensor]], Tensor | tuple[Tensor, ...]]


def _optional(inputs: Sequence[Tensor | None], position: int) -> Tensor | None:
    """Return the input at a position, or None if it is left out."""
    return inputs[position] if position < len(inputs) else None


def _constant(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    (name, value), *_ = node.attributes.items()
    if name == "value":
        return value
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnsupportedError(f"no gradient is known for the ONNX operator Constant with {name}")
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


def _window(
    node: OnnxNode, x: Tensor, kernel: Sequence[int], fill: float
) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Return (x, padding, strides, dilations) of a sliding window; x is padded here where torch cannot do it."""
    count = len(kernel)
    strides = list(node.get("strides", [1] * count))
    dilations = list(node.get("dilations", [1] * count))
    auto = node.get("auto_pad", "NOTSET")
    pads = list(node.get("pads", [0] * 2 * count)) if auto == "NOTSET" else [0] * 2 * count
    begin, end = pads[:count], pads[count:]
    if auto.startswith("SAME"):
        for i, (size, width) in enumerate(zip(x.shape[2:], kernel, strict=True)):
            total = max((ceil(size / strides[i]) - 1) * strides[i] + (width - 1) * dilations[i] + 1 - size, 0)
            small, large = total // 2, total - total // 2
            begin[i], end[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    if begin == end and all(2 * pad <= width for pad, width in zip(begin, kernel, strict=True)):
        return x, begin, strides, dilations
    return _padded(x, begin, end, fill), [0] * count, strides, dilations


def _padded(x: Tensor, begin: Sequence[int], end: Sequence[int], fill: float) -> Tensor:
    return F.pad(x, list(chain.from_iterable(zip(begin[::-1], end[::-1], strict=True))), value=fill)


def _conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, weight, bias = inputs[0], inputs[1], _optional(inputs, 2)
    x, padding, strides, dilations = _window(node, x, weight.shape[2:], 0.0)
    return torch.convolution(
        x, weight, bias, strides, padding, dilations, False, [0] * len(padding), node.get("group", 1)
    )


def _kernel(node: OnnxNode) -> list[int]:
    kernel = list(node.attributes["kernel_shape"])
    if len(kernel) != 2:
        raise UnsupportedError(f"no gradient is known for the ONNX operator {node.kind} over {len(kernel)} axes")
    return kernel


def _max_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    kernel = _kernel(node)
    x, padding, strides, dilations = _window(node, inputs[0], kernel, -torch.inf)
    return F.max_pool2d(x, kernel, strides, padding, dilations, ceil_mode=bool(node.get("ceil_mode", 0)))


def _average_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    kernel = _kernel(node)
    x, padding, strides, dilations = _window(node, inputs[0], kernel, 0.0)
    if any(dilation != 1 for dilation in dilations):
        raise UnsupportedError("no gradient is known for the ONNX operator AveragePool with dilations")
    include, ceiling = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    if ceiling and (any(padding) or x is not inputs[0]):  # torch counts the pixels of protruding windows differently
        raise UnsupportedError("no gradient is known for the ONNX operator AveragePool with both padding and ceil_mode")
    pool = partial(F.avg_pool2d, kernel_size=kernel, stride=strides, padding=padding, ceil_mode=ceiling)
    if x is inputs[0] or include:
        return pool(x, count_include_pad=include)
    inside, *_ = _window(node, torch.ones_like(inputs[0][:1, :1]), kernel, 0.0)
    return pool(x) / pool(inside)


def _dropout(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    training = _optional(inputs, 2)
    if training is not None and bool(training):
        raise UnsupportedError("expected Dropout in inference form, got one in training mode")
    return inputs[0]


def _batch_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    if node.get("training_mode", 0):
        raise UnsupportedError("expected BatchNormalization in inference form, got one in training mode")
    x, scale, shift, mean, variance = inputs
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, node.get("epsilon", 1e-5))


def _layer_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    return F.layer_norm(x, x.shape[node.get("axis", -1) :], inputs[1], _optional(inputs, 2), node.get("epsilon", 1e-5))


def _gemm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b, c = inputs[0], inputs[1], _optional(inputs, 2)
    a = a.t() if node.get("transA", 0) else a
    b = b.t() if node.get("transB", 0) else b
    alpha = node.get("alpha", 1.0)
    return alpha * (a @ b) if c is None else torch.addmm(c, a, b, beta=node.get("beta", 1.0), alpha=alpha)


def _divide(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = inputs
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _clip(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if node.opset < 11:
        return x.clamp(node.get("min", -torch.inf), node.get("max", torch.inf))
    low, high = _optional(inputs, 1), _optional(inputs, 2)
    return x if low is None and high is None else torch.clamp(x, low, high)


def _softmax(node: OnnxNode, inputs: list[Tensor], *, function: Callable[..., Tensor]) -> Tensor:
    x = inputs[0]
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    return function(x.flatten(node.get("axis", 1)), dim=-1).view_as(x)  # axes from there on are flattened into one


def _reduce(node: OnnxNode, inputs: list[Tensor], *, function: Callable[..., Tensor]) -> Tensor:
    x, axes = inputs[0], node.numbers("axes", inputs, 1)
    if not axes and node.get("noop_with_empty_axes", 0):
        return x
    return function(x, dim=axes or list(range(x.dim())), keepdim=bool(node.get("keepdims", 1)))


def _flatten(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    axis = node.get("axis", 1)
    axis = axis if axis >= 0 else axis + x.dim()
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def _reshape(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, shape = inputs[0], node.numbers("shape", inputs, 1)
    keep = not node.get("allowzero", 0)
    return x.reshape([x.shape[i] if size == 0 and keep else size for i, size in enumerate(shape)])


def _transpose(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return inputs[0].permute(node.get("perm", list(range(inputs[0].dim()))[::-1]))


def _squeeze(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs[0], node.numbers("axes", inputs, 1)
    return x.squeeze(tuple(axes)) if axes else x.squeeze()


def _unsqueeze(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs[0], node.numbers("axes", inputs, 1)
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    starts, ends, axes, steps = (
        node.numbers(name, inputs, i + 1) for i, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = axes[i] if axes else i, steps[i] if steps else 1
        if step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
        else:
            positions = range(*slice(start, end, step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(positions), device=x.device, dtype=torch.int64))
    return x


def _gather(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, indices = inputs
    axis = node.get("axis", 0) % x.dim()
    picked = x.index_select(axis, (indices.flatten() % x.shape[axis]).to(x.device))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _pad(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, pads, axes = inputs[0], node.numbers("pads", inputs, 1), node.numbers("axes", inputs, 3)
    mode = node.get("mode", "constant")
    if mode != "constant":
        raise UnsupportedError(f"no gradient is known for the ONNX operator Pad with mode {mode}")
    begin, end = [0] * x.dim(), [0] * x.dim()
    count = len(pads) // 2
    for i, axis in enumerate(axes or range(count)):
        begin[axis], end[axis] = pads[i], pads[count + i]
    fill = _optional(inputs, 2)
    return _padded(x, begin, end, node.get("value", 0.0) if fill is None else fill.item())


def _split(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    x, sizes = inputs[0], node.numbers("split", inputs, 1)
    axis = node.get("axis", 0)
    return x.split(sizes or ceil(x.shape[axis] / len(node.outputs)), dim=axis)


def _expand(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return inputs[0].expand(torch.broadcast_shapes(inputs[0].shape, inputs[1].tolist()))


def _shape(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.tensor(inputs[0].shape[node.get("start", 0) : node.get("end", None)], dtype=torch.int64)


def _constant_of_shape(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return node.get("value", torch.zeros(1)).expand(inputs[0].tolist())


def _cast(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    like = np.zeros(1, helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    return inputs[0].to(torch.from_numpy(like).dtype)


def _unary(function: Callable[..., Tensor], **defaults: float | str) -> Operator:
    """Return function(x, *attributes) as an operator; the attributes have these defaults."""
    return lambda node, inputs: function(inputs[0], *(node.get(name, value) for name, value in defaults.items()))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0], inputs[1])


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Add": _binary(torch.add),
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "Cast": _cast,
        "Clip": _clip,
        "Concat": lambda node, inputs: torch.cat(inputs, dim=node.attributes["axis"]),
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "Conv": _conv,
        "Div": _divide,
        "Dropout": _dropout,
        "Elu": _unary(F.elu, alpha=1.0),
        "Equal": _binary(torch.eq),
        "Erf": _unary(torch.erf),
        "Exp": _unary(torch.exp),
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Gelu": _unary(lambda x, approximate: F.gelu(x, approximate=approximate), approximate="none"),
        "Gemm": _gemm,
        "GlobalAveragePool": _unary(lambda x: x.mean(list(range(2, x.dim())), keepdim=True)),
        "GlobalMaxPool": _unary(lambda x: x.amax(list(range(2, x.dim())), keepdim=True)),
        "HardSigmoid": _unary(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), alpha=0.2, beta=0.5),
        "HardSwish": _unary(F.hardswish),
        "Identity": _unary(lambda x: x),
        "LayerNormalization": _layer_norm,
        "LeakyRelu": _unary(F.leaky_relu, alpha=0.01),
        "Log": _unary(torch.log),
        "LogSoftmax": partial(_softmax, function=torch.log_softmax),
        "MatMul": _binary(torch.matmul),
        "Max": lambda node, inputs: reduce(torch.maximum, inputs),
        "MaxPool": _max_pool,
        "Min": lambda node, inputs: reduce(torch.minimum, inputs),
        "Mul": _binary(torch.mul),
        "Neg": _unary(torch.neg),
        "PRelu": _binary(lambda x, slope: torch.where(x >= 0, x, slope * x)),
        "Pad": _pad,
        "Pow": _binary(lambda x, exponent: torch.pow(x, exponent).to(x.dtype)),
        "Reciprocal": _unary(torch.reciprocal),
        "ReduceMax": partial(_reduce, function=torch.amax),
        "ReduceMean": partial(_reduce, function=torch.mean),
        "ReduceSum": partial(_reduce, function=torch.sum),
        "Relu": _unary(F.relu),
        "Reshape": _reshape,
        "Shape": _shape,
        "Sigmoid": _unary(torch.sigmoid),
        "Slice": _slice,
        "Softmax": partial(_softmax, function=torch.softmax),
        "Softplus": _unary(F.softplus),
        "Split": _split,
        "Sqrt": _unary(torch.sqrt),
        "Squeeze": _squeeze,
        "Sub": _binary(torch.sub),
        "Tanh": _unary(torch.tanh),
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
        "Where": lambda node, inputs: torch.where(*inputs),
    }
)
