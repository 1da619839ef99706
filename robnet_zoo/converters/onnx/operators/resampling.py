"""Images at other sizes and at points of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, bounded, optional


def _resize(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    early = node.opset < 11  # inputs are (x, scales), and points lie at multiples of the step
    scales = _given(inputs, 1 if early else 2)
    wanted = None if early else _given(inputs, 3)
    axes = [axis % x.dim() for axis in node.get("axes", range(x.dim()))]
    if scales is not None:
        sizes = [floor(x.shape[axis] * scale) for axis, scale in zip(axes, scales, strict=True)]
    elif wanted is not None:
        sizes, scales = _by_sizes(node, [x.shape[axis] for axis in axes], [int(size) for size in wanted])
    else:
        raise node.refuse("without scales and sizes")
    transform = "asymmetric" if early else node.get("coordinate_transformation_mode", "half_pixel")
    region = optional(inputs, 1) if transform == "tf_crop_and_resize" else None
    edges = None if region is None else region.tolist()
    for i, axis in enumerate(axes):
        ends = (0.0, 1.0) if edges is None else (edges[i], edges[len(axes) + i])
        if sizes[i] != x.shape[axis] or scales[i] != 1 or ends != (0.0, 1.0):
            points = _points(transform, x.shape[axis], sizes[i], scales[i], ends)
            x = _resampled(node, x, axis, points, scales[i], early=early)
    return x


def _given(inputs: Sequence[Tensor | None], position: int) -> list[float] | None:
    """Return the numbers of an input, or None if there are none."""
    value = optional(inputs, position)
    return None if value is None or not value.numel() else value.tolist()


def _by_sizes(node: OnnxNode, old: Sequence[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    """Return the sizes and scales of axes that get new sizes, with one scale for all if the node asks for that."""
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    scales = [size / before for size, before in zip(sizes, old, strict=True)]
    if policy == "stretch":
        return sizes, scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [floor(before * scale + 0.5) for before in old], [scale] * len(old)


def _points(transform: str, old: int, new: int, scale: float, ends: tuple[float, float]) -> Tensor:
    """Return where each of the new numbers lies among the old ones, (new,)."""
    x = torch.arange(*bounded([new]), dtype=torch.float64)
    half = (x + 0.5) / scale - 0.5
    match transform:
        case "half_pixel":
            return half
        case "pytorch_half_pixel":
            return half if new > 1 else torch.zeros_like(x)
        case "half_pixel_symmetric":
            return old / 2 * (1 - new / (scale * old)) + half
        case "align_corners":
            return x * (old - 1) / (new - 1) if new > 1 else torch.zeros_like(x)
        case "asymmetric":
            return x / scale
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        case _:  # tf_crop_and_resize
            first, last = ends
            if new == 1:
                return torch.full_like(x, 0.5 * (first + last) * (old - 1))
            return first * (old - 1) + x * (last - first) * (old - 1) / (new - 1)


def _resampled(node: OnnxNode, x: Tensor, axis: int, points: Tensor, scale: float, *, early: bool) -> Tensor:
    """Return x with an axis sampled at points among its numbers."""
    bounded(len(points) if i == axis else length for i, length in enumerate(x.shape))
    size, mode = x.shape[axis], node.get("mode", "nearest")
    if mode == "nearest":
        rounding = node.get("nearest_mode", "round_prefer_floor")
        nearest = {
            "round_prefer_floor": torch.ceil(points - 0.5),
            "round_prefer_ceil": torch.floor(points + 0.5),
            "floor": torch.floor(points),
            "ceil": torch.ceil(points),
        }["floor" if early and scale >= 1 else "ceil" if early else rounding]
        result = x.index_select(axis, nearest.long().clamp(0, size - 1).to(x.device))
    else:
        matrix = _weights(node, points, size, scale).to(x)  # (new, old)
        result = torch.tensordot(x, matrix, dims=([axis], [1])).movedim(-1, axis)
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = ((points < 0) | (points > size - 1)).to(x.device)
        shape = [-1 if i == axis else 1 for i in range(x.dim())]
        result = result.masked_fill(outside.reshape(shape), node.get("extrapolation_value", 0.0))
    return result


def _weights(node: OnnxNode, points: Tensor, size: int, scale: float) -> Tensor:
    """Return the weight of each old number in each new one, (new, old), linear or cubic."""
    cubic = node.get("mode") == "cubic"
    squeeze = min(scale, 1.0) if node.get("antialias", 0) else 1.0
    reach = ceil((2 if cubic else 1) / squeeze)
    taps = points.floor()[:, None] + torch.arange(-reach, reach + 2)  # (new, taps)
    distance = ((taps - points[:, None]) * squeeze).abs()
    weight = _cubic(distance, node.get("cubic_coeff_a", -0.75)) if cubic else (1 - distance).clamp(min=0)
    if node.get("exclude_outside", 0):
        weight = weight * ((taps >= 0) & (taps <= size - 1))
    weight = weight / weight.sum(1, keepdim=True)
    result = torch.zeros(len(points), size, dtype=torch.float64)
    return result.scatter_add(1, taps.long().clamp(0, size - 1), weight)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Return Keys' kernel (1981) at distances."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))


def _upsample(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    scales = node.get("scales") or inputs[1].tolist()
    for axis, scale in enumerate(scales):
        if scale != 1:
            points = _points("asymmetric", x.shape[axis], floor(x.shape[axis] * scale), scale, (0, 1))
            x = _resampled(node, x, axis, points, scale, early=True)
    return x


GRID_MODES = MappingProxyType({"linear": "bilinear", "cubic": "bicubic"})  # since opset 20


def _grid_sample(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    mode = node.get("mode", "bilinear")
    return F.grid_sample(
        inputs[0],
        inputs[1].to(inputs[0].dtype),
        GRID_MODES.get(mode, mode),
        node.get("padding_mode", "zeros"),
        bool(node.get("align_corners", 0)),
    )


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "GridSample": _grid_sample,
        "Resize": _resize,
        "Upsample": _upsample,
    }
)
