"""Pools: windows that become a single number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil, prod
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.convolution import padded, placement, window
from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional, positions, unary

MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _max_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    x, kernel = inputs[0], list(node.attributes["kernel_shape"])
    if len(kernel) not in MAX_POOLS:
        raise node.refuse(f"over {len(kernel)} axes")
    whole = not x.is_floating_point()  # torch pools no integers on every device
    x = x.double() if whole else x
    if len(node.outputs) > 1:
        return _max_pool_with_positions(node, x, kernel)
    padded_x, padding, strides, dilations = window(node, x, kernel, -torch.inf)
    result = MAX_POOLS[len(kernel)](
        padded_x, kernel, strides, padding, dilations, ceil_mode=bool(node.get("ceil_mode", 0))
    )
    return _counted(node, x, result).to(inputs[0].dtype)


def _counted(node: OnnxNode, x: Tensor, pooled: Tensor) -> Tensor:
    """Return pooled x without the windows that begin in the padding behind it, which torch may count."""
    for axis, count in enumerate(_layout(node, x).counts, start=2):
        pooled = pooled.narrow(axis, 0, count)
    return pooled


def _max_pool_with_positions(node: OnnxNode, x: Tensor, kernel: Sequence[int]) -> tuple[Tensor, ...]:
    """Return maxima and where they are, as positions in the whole flattened tensor."""
    begin, end, strides, dilations = placement(node, x.shape[2:], kernel)
    pool = partial(MAX_POOLS[len(kernel)], kernel_size=kernel, stride=strides, dilation=dilations)
    wide = padded(x, begin, end, -torch.inf)
    pooled = pool(wide, ceil_mode=bool(node.get("ceil_mode", 0)), return_indices=True)
    maxima, inside = (_counted(node, x, part) for part in pooled)
    axes, sizes = [], list(x.shape[2:])
    for i in reversed(range(len(sizes))):
        axes.append(inside % wide.shape[2 + i] - begin[i])
        inside = inside // wide.shape[2 + i]
    axes.reverse()
    flat = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * len(sizes))
    order = range(len(sizes)) if not node.get("storage_order", 0) else range(len(sizes) - 1, -1, -1)
    for i in order:
        flat = flat * sizes[i] + axes[i]
    return maxima, flat


def _max_unpool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, where = inputs[0], positions(inputs[1])
    kernel = list(node.attributes["kernel_shape"])
    count = len(kernel)
    strides, pads = list(node.get("strides", [1] * count)), list(node.get("pads", [0] * 2 * count))
    sizes = [(x.shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[count + i] for i in range(count)]
    flat = x.new_zeros(x.shape[0] * x.shape[1] * prod(sizes))
    result = flat.scatter(0, where.flatten(), x.flatten()).reshape(*x.shape[:2], *sizes)
    wanted = optional(inputs, 2)  # a larger image, in whose corner the result lies
    ends = (
        [0] * count if wanted is None else [wide - size for wide, size in zip(wanted.tolist()[2:], sizes, strict=True)]
    )
    return padded(result, [0] * count, ends, 0.0)


@dataclass(frozen=True)
class _Layout:
    """The windows over an image.

    begin, end: the padding before and behind each axis. spare: how far the last windows protrude beyond that. counts:
    of windows along each axis.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    spare: list[int]
    counts: list[int]


def _layout(node: OnnxNode, x: Tensor) -> _Layout:
    kernel = list(node.attributes["kernel_shape"])
    begin, end, strides, dilations = placement(node, x.shape[2:], kernel)
    spare, counts = [], []
    for i, width in enumerate(kernel):
        size, reach = x.shape[2 + i] + begin[i] + end[i], (width - 1) * dilations[i] + 1
        count = (size - reach) // strides[i] + 1
        if node.get("ceil_mode", 0):  # windows may protrude, but must begin before the padding behind the image
            count = ceil((size - reach) / strides[i]) + 1
            count -= (count - 1) * strides[i] >= size - end[i]
        counts.append(count)
        spare.append(max((count - 1) * strides[i] + reach - size, 0))
    return _Layout(kernel, strides, dilations, begin, end, spare, counts)


def _sums(wide: Tensor, layout: _Layout) -> Tensor:
    """Return the sum over each window of an image that is padded already."""
    total: Tensor | None = None
    for tap in product(*(range(width) for width in layout.kernel)):
        part = wide
        for i, offset in enumerate(tap):
            start, stride = offset * layout.dilations[i], layout.strides[i]
            part = part[(slice(None),) * (2 + i) + (slice(start, start + (layout.counts[i] - 1) * stride + 1, stride),)]
        total = part if total is None else total + part
    assert total is not None, "a window has at least one number"
    return total


def _around(x: Tensor, layout: _Layout, *, fill: float = 0.0) -> Tensor:
    """Return an image with its padding, whose numbers are `fill`, and with zeros where windows protrude beyond it."""
    none = [0] * len(layout.spare)
    return padded(padded(x, layout.begin, layout.end, fill), none, layout.spare, 0.0)


def _average_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, include = inputs[0], bool(node.get("count_include_pad", 0))
    layout = _layout(node, x)
    plain = len(layout.kernel) == 2 and not node.get("ceil_mode", 0) and set(layout.dilations) <= {1}
    small = all(2 * pad <= width for pad, width in zip(layout.begin, layout.kernel, strict=True))
    if plain and small and layout.begin == layout.end:
        return F.avg_pool2d(x, layout.kernel, layout.strides, layout.begin, count_include_pad=include)
    counted = _sums(_around(torch.ones_like(x[:1, :1]), layout, fill=float(include)), layout)
    return _sums(_around(x, layout), layout) / counted


def _lp_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, p = inputs[0], float(node.get("p", 2))
    layout = _layout(node, x)
    return _root(_sums(_around(x.abs() ** p, layout), layout), p)


def _root(x: Tensor, p: float) -> Tensor:
    return x if p == 1 else x.pow(1 / p)


def _global_lp_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, p = inputs[0], float(node.get("p", 2))
    return _root((x.abs() ** p).sum(list(range(2, x.dim())), keepdim=True), p)


def _global_average(x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.dim())), keepdim=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.dim())), keepdim=True)


def average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Return the averages over the windows of a node's attributes."""
    return _average_pool(node, [x])


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "AveragePool": _average_pool,
        "GlobalAveragePool": unary(_global_average),
        "GlobalLpPool": _global_lp_pool,
        "GlobalMaxPool": unary(_global_max),
        "LpPool": _lp_pool,
        "MaxPool": _max_pool,
        "MaxUnpool": _max_unpool,
    }
)
