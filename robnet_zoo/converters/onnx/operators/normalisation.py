"""Normalisations, softmax and what resembles it, and dropout in inference form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional
from robnet_zoo.errors import UnsupportedError


def _dropout(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    training = optional(inputs, 2)
    if training is not None and bool(training):
        raise UnsupportedError("expected Dropout in inference form, got one in training mode")
    x = inputs[0]
    return (x, torch.ones_like(x, dtype=torch.bool)) if len(node.outputs) > 1 else x


def _batch_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    if not node.get("spatial", 1):  # until opset 8
        raise node.refuse("with a number for each pixel")
    x, scale, shift, mean, variance = inputs
    training, kept = node.get("training_mode", 0), node.get("momentum", 0.9)
    if training and node.on_image:
        raise UnsupportedError("expected BatchNormalization in inference form, got one in training mode")
    running = ()
    if training:  # of constants, such as the standardised weights of a convolution
        before = mean, variance
        variance, mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
        running = tuple(kept * old + (1 - kept) * new for old, new in zip(before, (mean, variance), strict=True))
    y = F.batch_norm(x, mean, variance, scale, shift, False, 0.0, node.get("epsilon", 1e-5))
    return (y, *running) if running else y


def _layer_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    x, scale, shift = inputs[0], inputs[1], optional(inputs, 2)
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    result = normalised_last(x, axis, scale, shift, epsilon)
    if len(node.outputs) == 1:
        return result
    axes = list(range(axis % x.dim(), x.dim()))
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    return result, mean, (variance + epsilon).rsqrt()


def normalised_last(x: Tensor, axis: int, scale: Tensor | None, shift: Tensor | None, epsilon: float) -> Tensor:
    """Return x with the axes from `axis` on normalised together, scaled and shifted.

    Args:
        x: of any shape.
        axis: the first of the axes.
        scale: of those axes' shape, or one that broadcasts to x's.
        shift: likewise.
        epsilon: added to the variance.
    """
    shape = x.shape[axis:]
    if all(value is None or value.shape == shape for value in (scale, shift)):
        return F.layer_norm(x, shape, scale, shift, epsilon)
    result = F.layer_norm(x, shape, None, None, epsilon)
    result = result if scale is None else result * scale
    return result if shift is None else result + shift


def rms_normalised(x: Tensor, axis: int, scale: Tensor, epsilon: float) -> Tensor:
    """Return x divided by the root of the mean of its squares, and scaled.

    Args:
        x: any shape.
        axis: the first of the axes that the mean is over; all later ones belong to it.
        scale: broadcasts to x.
        epsilon: added to the mean.
    """
    axes = list(range(axis % x.dim(), x.dim()))
    return x * (x.square().mean(axes, keepdim=True) + epsilon).rsqrt() * scale


def _rms_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return rms_normalised(inputs[0], node.get("axis", -1), inputs[1], node.get("epsilon", 1e-5))


def _instance_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, scale, shift = inputs
    axes = list(range(2, x.dim()))
    variance, mean = torch.var_mean(x, axes, unbiased=False, keepdim=True)
    shape = (-1, *[1] * len(axes))
    return (x - mean) * (variance + node.get("epsilon", 1e-5)).rsqrt() * scale.reshape(shape) + shift.reshape(shape)


def _group_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, scale, shift = inputs
    groups = node.attributes["num_groups"]
    if node.opset < 21:  # a number for each group
        per_group = x.shape[1] // groups
        scale, shift = scale.repeat_interleave(per_group), shift.repeat_interleave(per_group)
    return F.group_norm(x, groups, scale, shift, node.get("epsilon", 1e-5))


def _mean_variance_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs[0], list(node.get("axes", [0, 2, 3]))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (x.var(axes, unbiased=False, keepdim=True).sqrt() + 1e-9)


def _local_response_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, size = inputs[0], node.attributes["size"]
    before = (size - 1) // 2
    squares = F.pad(x.square().unsqueeze(1).flatten(3), (0, 0, before, size - 1 - before))  # (N, 1, C + size - 1, HW)
    sums = squares.unfold(2, size, 1).sum(-1).reshape(x.shape)
    return x / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * sums) ** node.get("beta", 0.75)


def _lp_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, p, axis = inputs[0], node.get("p", 2), node.get("axis", -1)
    size = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return torch.where(size == 0, torch.zeros_like(x), x / size.where(size != 0, 1.0))


def _softmax(node: OnnxNode, inputs: list[Tensor], *, function: Callable[..., Tensor]) -> Tensor:
    x = inputs[0]
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    axis = node.get("axis", 1) % max(x.dim(), 1)
    return function(x.flatten(axis), dim=-1).view_as(x)  # axes from there on are flattened into one


def _hardmax(x: Tensor, dim: int) -> Tensor:
    return torch.zeros_like(x).scatter(dim, x.argmax(dim, keepdim=True), 1.0)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "BatchNormalization": _batch_norm,
        "Dropout": _dropout,
        "GroupNormalization": _group_norm,
        "Hardmax": partial(_softmax, function=_hardmax),
        "InstanceNormalization": _instance_norm,
        "LRN": _local_response_norm,
        "LayerNormalization": _layer_norm,
        "LogSoftmax": partial(_softmax, function=torch.log_softmax),
        "LpNormalization": _lp_norm,
        "MeanVarianceNormalization": _mean_variance_norm,
        "RMSNormalization": _rms_norm,
        "Softmax": partial(_softmax, function=torch.softmax),
    }
)
