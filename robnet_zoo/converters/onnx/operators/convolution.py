"""Convolutions, and how windows lie on padded images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import ceil, prod
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional


def window(
    node: OnnxNode, x: Tensor, kernel: Sequence[int], fill: float
) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Return (x, padding, strides, dilations) of a sliding window; x is padded here where torch cannot do it.

    Args:
        node: has the attributes of the window.
        x: (N, C, ...).
        kernel: the window's size along each axis.
        fill: the value of what x is padded with.
    """
    begin, end, strides, dilations = placement(node, x.shape[2:], kernel)
    if begin == end and all(2 * pad <= width for pad, width in zip(begin, kernel, strict=True)):
        return x, begin, strides, dilations
    return padded(x, begin, end, fill), [0] * len(kernel), strides, dilations


def placement(
    node: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the padding before and behind each axis, the strides and the dilations of a sliding window.

    Args:
        node: has them as attributes.
        sizes: of the axes of the image.
        kernel: the sizes of the window.
    """
    count = len(kernel)
    strides = list(node.get("strides", [1] * count))
    dilations = list(node.get("dilations", [1] * count))
    auto = node.get("auto_pad", "NOTSET")
    pads = list(node.get("pads", [0] * 2 * count)) if auto == "NOTSET" else [0] * 2 * count
    begin, end = pads[:count], pads[count:]
    if auto.startswith("SAME"):
        for i, (size, width) in enumerate(zip(sizes, kernel, strict=True)):
            total = max((ceil(size / strides[i]) - 1) * strides[i] + (width - 1) * dilations[i] + 1 - size, 0)
            begin[i], end[i] = shared(total, auto)
    return begin, end, strides, dilations


def shared(total: int, auto: str) -> tuple[int, int]:
    """Return the padding before and behind an axis; SAME_UPPER pads more behind it, SAME_LOWER more before it."""
    small, large = total // 2, total - total // 2
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def padded(x: Tensor, begin: Sequence[int], end: Sequence[int], fill: float) -> Tensor:
    """Return x with its last axes padded, or cropped where a number is negative.

    Args:
        x: any shape.
        begin, end: how much before and behind each of the axes.
        fill: the value of the padding.
    """
    return F.pad(x, list(chain.from_iterable(zip(begin[::-1], end[::-1], strict=True))), value=fill)


def convolve(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a convolution with a node's attributes.

    Args:
        node: has the strides, paddings, dilations and groups.
        x: (N, C, ...).
        weight: (M, C / groups, ...).
        bias: (M,), if there is one.
    """
    x, padding, strides, dilations = window(node, x, weight.shape[2:], 0.0)
    return torch.convolution(
        x, weight, bias, strides, padding, dilations, False, [0] * len(padding), node.get("group", 1)
    )


def _conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return convolve(node, inputs[0], inputs[1], optional(inputs, 2))


def _conv_transpose(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, weight = inputs[:2]
    kernel, sizes = weight.shape[2:], x.shape[2:]
    count = len(kernel)
    begin, end, strides, dilations = placement(node, sizes, kernel)
    extra = list(node.get("output_padding", [0] * count))
    auto = node.get("auto_pad", "NOTSET")
    full = [strides[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(count)]
    wanted = node.get("output_shape")
    if wanted is not None or auto.startswith("SAME"):
        wanted = [strides[i] * sizes[i] for i in range(count)] if wanted is None else list(wanted[-count:])
        begin = [shared(max(full[i] - wanted[i], 0), auto)[0] for i in range(count)]
    else:
        wanted = [full[i] - begin[i] - end[i] for i in range(count)]
    bias = optional(inputs, 2)
    whole = torch.convolution(x, weight, None, strides, [0] * count, dilations, True, [0] * count, node.get("group", 1))
    behind = [begin[i] + wanted[i] - whole.shape[2 + i] for i in range(count)]  # rows that no pixel reaches are 0
    result = padded(whole, [0] * count, behind, 0.0)
    result = padded(result, [-pad for pad in begin], [0] * count, 0.0)
    return result if bias is None else result + _along_channels(bias, count)


def _along_channels(values: Tensor, axes: int) -> Tensor:
    return values.reshape(-1, *[1] * axes)


def _deform_conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return a convolution whose window's points are moved by offsets (Dai et al., 2017; Zhu et al., 2019)."""
    x, weight, offset = inputs[:3]
    bias, mask = optional(inputs, 3), optional(inputs, 4)
    kernel = weight.shape[2:]
    if len(kernel) != 2:
        raise node.refuse(f"over {len(kernel)} axes")
    n, channels, height, width = x.shape
    begin, _, strides, dilations = placement(node, x.shape[2:], kernel)
    groups, offset_groups = node.get("group", 1), node.get("offset_group", 1)
    rows, columns = offset.shape[2:]
    points = prod(kernel)
    grid = offset.reshape(n, offset_groups, points, 2, rows, columns)
    taps = torch.arange(points, device=x.device)
    y = (taps // kernel[1] * dilations[0] - begin[0])[:, None, None]
    y = y + torch.arange(rows, device=x.device)[:, None] * strides[0] + grid[:, :, :, 0]  # (N, G, points, rows, cols)
    z = (taps % kernel[1] * dilations[1] - begin[1])[:, None, None]
    z = z + torch.arange(columns, device=x.device) * strides[1] + grid[:, :, :, 1]
    where = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)  # in the units of grid_sample
    per_group = x.reshape(n * offset_groups, channels // offset_groups, height, width)
    sampled = F.grid_sample(per_group, where.reshape(n * offset_groups, points * rows, columns, 2), align_corners=False)
    sampled = sampled.reshape(n, offset_groups, channels // offset_groups, points, rows, columns)
    if mask is not None:
        sampled = sampled * mask.reshape(n, offset_groups, 1, points, rows, columns)
    columns_of = sampled.reshape(n, groups, channels // groups * points, rows * columns)
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    result = (filters @ columns_of).reshape(n, weight.shape[0], rows, columns)
    return result if bias is None else result + _along_channels(bias, 2)


def _col2im(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, sizes, kernel = inputs[0], inputs[1].tolist(), inputs[2].tolist()
    count = len(sizes)
    if count != 2:
        raise node.refuse(f"over {count} axes")
    pads = list(node.get("pads", [0] * 4))
    whole = [sizes[i] + pads[i] + pads[count + i] for i in range(count)]
    strides, dilations = (tuple(node.get(name, [1] * count)) for name in ("strides", "dilations"))
    image = F.fold(x, tuple(whole), tuple(kernel), dilation=dilations, stride=strides)
    return padded(image, [-pad for pad in pads[:count]], [-pad for pad in pads[count:]], 0.0)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Col2Im": _col2im,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "DeformConv": _deform_conv,
    }
)
