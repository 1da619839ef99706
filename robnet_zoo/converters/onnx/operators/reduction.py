"""Reductions over axes, sums along them, and the largest numbers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional

Reduction = Callable[[Tensor, list[int]], Tensor]  # of the axes of a tensor, which stay with one entry


def _reduce(node: OnnxNode, inputs: list[Tensor], *, function: Reduction) -> Tensor:
    x, axes = inputs[0], node.numbers("axes", inputs, 1)
    if not axes and node.get("noop_with_empty_axes", 0):
        return function(x, []) if function in (_l1, _l2, _squares, _log_sum, _log_sum_exp) else x
    chosen = sorted(axis % x.dim() for axis in axes) if axes else list(range(x.dim()))
    if not chosen:  # a single number
        result = function(x.reshape(1), [0]).reshape(())
        return result.to(x.dtype)
    if not x.is_floating_point() and function not in (_maximum, _minimum):
        x = x.double()
    result = function(x, chosen)
    result = result.to(inputs[0].dtype)
    if node.get("keepdims", 1):
        return result
    return result.reshape([size for axis, size in enumerate(x.shape) if axis not in chosen])


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    return x.sum(axes, keepdim=True) if axes else x


def _mean(x: Tensor, axes: list[int]) -> Tensor:
    return x.mean(axes, keepdim=True)


def _product(x: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        x = x.prod(axis, keepdim=True)
    return x


def _maximum(x: Tensor, axes: list[int]) -> Tensor:
    return _extreme(x, axes, torch.amax)


def _minimum(x: Tensor, axes: list[int]) -> Tensor:
    return _extreme(x, axes, torch.amin)


def _extreme(x: Tensor, axes: list[int], function: Callable[..., Tensor]) -> Tensor:
    if 0 in (x.shape[axis] for axis in axes):  # the extreme of nothing is the bound of the type
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        largest = function is torch.amin
        if x.dtype == torch.bool:
            return x.new_full(shape, largest)
        bounds = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
        worst = torch.inf if x.is_floating_point() else bounds.max
        return x.new_full(shape, worst if largest else -worst if x.is_floating_point() else bounds.min)
    return function(x, dim=axes, keepdim=True)


def _l1(x: Tensor, axes: list[int]) -> Tensor:
    return _sum(x.abs(), axes)


def _l2(x: Tensor, axes: list[int]) -> Tensor:
    return torch.linalg.vector_norm(x, 2, dim=axes, keepdim=True) if axes else x.abs()


def _squares(x: Tensor, axes: list[int]) -> Tensor:
    return _sum(x.square(), axes)


def _log_sum(x: Tensor, axes: list[int]) -> Tensor:
    return _sum(x, axes).log()


def _log_sum_exp(x: Tensor, axes: list[int]) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=True) if axes else x


def _position_of(node: OnnxNode, inputs: list[Tensor], *, largest: bool) -> Tensor:
    x, axis = inputs[0].detach(), node.get("axis", 0)
    x = x if largest else -x.double() if not x.is_floating_point() else -x
    if not node.get("select_last_index", 0):
        return x.argmax(axis, keepdim=bool(node.get("keepdims", 1)))
    size = x.shape[axis]
    return size - 1 - x.flip(axis).argmax(axis, keepdim=bool(node.get("keepdims", 1)))


def _cumulative(node: OnnxNode, inputs: list[Tensor], *, product: bool) -> Tensor:
    x, axis = inputs[0], int(inputs[1])
    x = x.flip(axis) if node.get("reverse", 0) else x
    if node.get("exclusive", 0):  # the number itself does not count
        first = x.narrow(axis, 0, 1) * 0 + int(product)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    result = (x.cumprod(axis) if product else x.cumsum(axis)).to(inputs[0].dtype)
    return result.flip(axis) if node.get("reverse", 0) else result


def _top_k(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    x, given = inputs[0], optional(inputs, 1)
    count = node.get("k") if given is None else int(given)
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    order = x.detach().argsort(dim=axis, descending=largest, stable=True).narrow(axis, 0, count)
    return x.gather(axis, order), order


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "ArgMax": partial(_position_of, largest=True),
        "ArgMin": partial(_position_of, largest=False),
        "CumProd": partial(_cumulative, product=True),
        "CumSum": partial(_cumulative, product=False),
        "ReduceL1": partial(_reduce, function=_l1),
        "ReduceL2": partial(_reduce, function=_l2),
        "ReduceLogSum": partial(_reduce, function=_log_sum),
        "ReduceLogSumExp": partial(_reduce, function=_log_sum_exp),
        "ReduceMax": partial(_reduce, function=_maximum),
        "ReduceMean": partial(_reduce, function=_mean),
        "ReduceMin": partial(_reduce, function=_minimum),
        "ReduceProd": partial(_reduce, function=_product),
        "ReduceSum": partial(_reduce, function=_sum),
        "ReduceSumSquare": partial(_reduce, function=_squares),
        "TopK": _top_k,
    }
)
