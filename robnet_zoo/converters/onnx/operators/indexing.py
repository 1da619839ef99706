"""Operators that pick numbers, or put them, by positions that are numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional, positions

SCATTERING = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _gather(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, indices = inputs[0], positions(inputs[1])
    axis = node.get("axis", 0) % x.dim()
    picked = x.index_select(axis, indices.flatten() % x.shape[axis])
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _gather_elements(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, axis = inputs[0], node.get("axis", 0) % inputs[0].dim()
    return x.gather(axis, positions(inputs[1]) % x.shape[axis])


def _gather_nd(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, indices, shared = inputs[0], positions(inputs[1]), node.get("batch_dims", 0)
    leading = [
        torch.arange(size, device=x.device).reshape([-1 if i == j else 1 for j in range(indices.dim() - 1)])
        for i, size in enumerate(x.shape[:shared])
    ]
    picked = [indices[..., i] for i in range(indices.shape[-1])]
    return x[(*leading, *picked)]


def _scatter_elements(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, updates = inputs[0], inputs[2]
    axis = node.get("axis", 0) % x.dim()
    indices = positions(inputs[1]) % x.shape[axis]
    kind = node.get("reduction", "none")
    if kind == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, SCATTERING[kind], include_self=True)


def _scatter_nd(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, indices, updates = inputs[0], positions(inputs[1]), inputs[2]
    depth = indices.shape[-1]
    strides = [1] * depth
    for i in range(depth - 2, -1, -1):
        strides[i] = strides[i + 1] * x.shape[i + 1]
    flat = sum(
        (indices[..., i] % x.shape[i] * strides[i] for i in range(depth)), torch.zeros_like(indices[..., 0])
    ).flatten()
    rows = x.reshape(-1, *x.shape[depth:]).flatten(1) if x.dim() > depth else x.reshape(-1, 1)
    new = updates.reshape(len(flat), rows.shape[1])
    where = flat[:, None].expand_as(new)
    kind = node.get("reduction", "none")
    if kind == "none":
        return rows.scatter(0, where, new).reshape(x.shape)
    return rows.scatter_reduce(0, where, new, SCATTERING[kind], include_self=True).reshape(x.shape)


def _one_hot(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    indices, depth, values = positions(inputs[0]), int(inputs[1].flatten()[0]), inputs[2]
    axis = node.get("axis", -1) % (indices.dim() + 1)
    known = (indices >= -depth) & (indices < depth)
    hot = torch.nn.functional.one_hot(indices % depth, depth).bool() & known.unsqueeze(-1)
    return torch.where(hot.movedim(-1, axis), values[1], values[0])


def _non_zero(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return inputs[0].detach().nonzero().t()


def _compress(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, condition, axis = inputs[0], inputs[1], node.get("axis")
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().flatten())


def _reverse_sequence(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, lengths = inputs[0], positions(inputs[1])
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    moved = x.movedim((batch, time), (0, 1))
    steps = torch.arange(moved.shape[1], device=x.device)
    where = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # (N, T)
    where = where.reshape(*where.shape, *[1] * (x.dim() - 2)).expand_as(moved)
    return moved.gather(1, where).movedim((0, 1), (batch, time))


def _unique(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    x, axis = inputs[0].detach(), node.get("axis")
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    inverse = inverse.flatten()
    first = torch.full((len(counts),), len(inverse), dtype=torch.int64, device=x.device)
    first = first.scatter_reduce(0, inverse, torch.arange(len(inverse), device=x.device), "amin")
    if not node.get("sorted", 1):
        order = first.argsort()
        values = values.index_select(0 if axis is None else axis, order)
        inverse, first, counts = order.argsort()[inverse], first[order], counts[order]
    return values, first, inverse, counts


def _tensor_scatter(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return a cache with the entries of an update written into it, from each row's own position on."""
    past, update, given = inputs[0], inputs[1], optional(inputs, 2)
    axis = node.get("axis", -2) % past.dim()
    size = past.shape[axis]
    start = past.new_zeros(past.shape[0], dtype=torch.int64) if given is None else positions(given)
    where = start[:, None] + torch.arange(update.shape[axis], device=past.device)  # (N, T)
    where = where % size if node.get("mode", "linear") == "circular" else where
    shape = [1] * past.dim()
    shape[0], shape[axis] = where.shape
    return past.scatter(axis, where.reshape(shape).expand_as(update), update)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Compress": _compress,
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "NonZero": _non_zero,
        "OneHot": _one_hot,
        "ReverseSequence": _reverse_sequence,
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "TensorScatter": _tensor_scatter,
        "Unique": _unique,
    }
)
