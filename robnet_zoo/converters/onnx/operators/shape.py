"""Operators that make, move or cut tensors without a look at their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from math import ceil, prod
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, bounded, optional, torch_type
from robnet_zoo.errors import UnsupportedError


def _constant(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    (name, value), *_ = node.attributes.items()
    if name == "value":
        return value
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnsupportedError(f"no gradient is known for the ONNX operator Constant with {name}")
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


def _concat(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.cat(inputs, dim=node.attributes["axis"])


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
            where = range(*slice(start, end, step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(where), device=x.device, dtype=torch.int64))
    return x


def _pad(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, pads, axes = inputs[0], node.numbers("pads", inputs, 1), node.numbers("axes", inputs, 3)
    mode = node.get("mode", "constant")
    begin, end = [0] * x.dim(), [0] * x.dim()
    count = len(pads) // 2
    for i, axis in enumerate(axes or range(count)):
        begin[axis], end[axis] = pads[i], pads[count + i]
    bounded(size + before + behind for size, before, behind in zip(x.shape, begin, end, strict=True))
    if mode != "constant":
        return _continued(x, begin, end, mode)
    fill = optional(inputs, 2)
    value = node.get("value", 0.0) if fill is None or not fill.numel() else fill.item()
    return F.pad(x, list(chain.from_iterable(zip(begin[::-1], end[::-1], strict=True))), value=value)


def _continued(x: Tensor, begin: list[int], end: list[int], mode: str) -> Tensor:
    """Return x padded by its own numbers: mirrored, repeated at the edge, or from the other side."""
    for axis, (before, behind) in enumerate(zip(begin, end, strict=True)):
        if not before and not behind:
            continue
        size = x.shape[axis]
        where = torch.arange(-before, size + behind, device=x.device)
        if mode == "edge":
            where = where.clamp(0, size - 1)
        elif mode == "wrap":
            where = where % size
        else:
            period = max(2 * (size - 1), 1)
            where = where % period
            where = torch.where(where < size, where, period - where)
        x = x.index_select(axis, where)
    return x


def _split(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    x, sizes = inputs[0], node.numbers("split", inputs, 1)
    axis = node.get("axis", 0)
    return x.split(sizes or ceil(x.shape[axis] / len(node.outputs)), dim=axis)


def _expand(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return inputs[0].expand(bounded(torch.broadcast_shapes(inputs[0].shape, inputs[1].tolist())))


def _tile(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, times = inputs[0], inputs[1].tolist()
    bounded(size * count for size, count in zip(x.shape, times, strict=True))
    return x.repeat(times)


def _shape(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.tensor(inputs[0].shape[node.get("start", 0) : node.get("end", None)], dtype=torch.int64)


def _size(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.tensor(inputs[0].numel(), dtype=torch.int64)


def _constant_of_shape(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return node.get("value", torch.zeros(1)).expand(bounded(inputs[0].tolist()))


def _range(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    start, limit, delta = (value.item() for value in inputs)
    count = max(ceil((limit - start) / delta), 0)
    bounded([count])
    return (torch.arange(count, dtype=torch.float64) * delta + start).to(inputs[0].dtype)


def _eye_like(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, offset = inputs[0], node.get("k", 0)
    dtype = torch_type(node.attributes["dtype"]) if "dtype" in node.attributes else x.dtype
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape)
    return (columns - rows[:, None] == offset).to(dtype)


def _triangle(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, given = inputs[0], optional(inputs, 1)
    offset = 0 if given is None else int(given)
    return torch.triu(x, offset) if node.get("upper", 1) else torch.tril(x, offset)


def _depth_to_space(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, block = inputs[0], node.attributes["blocksize"]
    n, channels, height, width = x.shape
    if node.get("mode", "DCR") == "DCR":
        x = x.reshape(n, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, channels // block**2, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, channels // block**2, height * block, width * block)


def _space_to_depth(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, block = inputs[0], node.attributes["blocksize"]
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.permute(order).reshape(n, channels * block**2, height // block, width // block)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Concat": _concat,
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "DepthToSpace": _depth_to_space,
        "Expand": _expand,
        "EyeLike": _eye_like,
        "Flatten": _flatten,
        "Pad": _pad,
        "Range": _range,
        "Reshape": _reshape,
        "Shape": _shape,
        "Size": _size,
        "Slice": _slice,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Trilu": _triangle,
        "Unsqueeze": _unsqueeze,
    }
)
