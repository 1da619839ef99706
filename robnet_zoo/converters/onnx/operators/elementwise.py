"""Operators that compute every number of their result from the numbers at its position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import (
    NARROW_FLOATS,
    NARROW_INTEGERS,
    OnnxNode,
    Operator,
    binary,
    held_type,
    is_integer_type,
    optional,
    positions,
    straight_through,
    torch_type,
    unary,
)
from robnet_zoo.converters.onnx.operators.rounding import narrow_float


def _divide(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = inputs
    if a.is_floating_point() and not is_integer_type(node.type(0)):
        return a / b
    quotient = torch.div(a, b)
    whole = torch.div(a, b, rounding_mode="trunc")
    return straight_through(quotient.to(whole.dtype), whole) if whole.is_floating_point() else whole


def _remainder(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.fmod(*inputs) if node.get("fmod", 0) else torch.remainder(*inputs)


def _power(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, exponent = inputs
    if x.is_floating_point() and exponent.numel() == 1 and not exponent.requires_grad:
        return x.pow(exponent.item()).reshape(torch.broadcast_shapes(x.shape, exponent.shape))
    return torch.pow(x, exponent).to(x.dtype)


def _clip(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if node.opset < 11:
        return x.clamp(node.get("min", -torch.inf), node.get("max", torch.inf))
    low, high = optional(inputs, 1), optional(inputs, 2)
    # A lower bound above the upper one counts for nothing, as in torch.
    low, high = (None if bound is None else bound.reshape(()).to(x.dtype) for bound in (low, high))
    return x if low is None and high is None else torch.clamp(x, low, high)


def _several(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return a function of two tensors as an operator of any number of them."""
    return lambda node, inputs: reduce(function, inputs)


def _mean(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _comparison(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return a function of two tensors, whose result has no gradient, as an operator."""
    return lambda node, inputs: function(inputs[0].detach(), inputs[1].detach())


def _bitwise(function: Callable[..., Tensor]) -> Operator:
    return lambda node, inputs: function(*(x if not x.is_floating_point() else positions(x) for x in inputs))


def _flip_bits(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, kind = inputs[0], node.type(0)
    if kind in (TensorProto.UINT16, TensorProto.UINT32):  # which are held in signed integers
        return (2**16 if kind == TensorProto.UINT16 else 2**32) - 1 - x
    return torch.bitwise_not(positions(x) if x.is_floating_point() else x)


def _shift_bits(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x, shift = (positions(value) for value in inputs)
    moved = x << shift if node.attributes["direction"] == "LEFT" else x >> shift
    return moved.to(inputs[0].dtype)


def _round_off(function: Callable[[Tensor], Tensor]) -> Operator:
    """Return a function that rounds, in whatever direction, as an operator through which gradients pass."""
    return lambda node, inputs: straight_through(inputs[0], function(inputs[0].detach()))


def _sign(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return the sign, with the gradient of a clip to [-1, 1] (Hubara et al., 2016)."""
    x = inputs[0]
    return straight_through(x.clamp(-1, 1), x.detach().sign()) if x.is_floating_point() else x.sign()


def _cast(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return cast_to(node, inputs[0], node.attributes["to"])


def _cast_like(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    kind = node.type(1)
    return cast_to(node, inputs[0], kind) if kind else inputs[0].to(inputs[1].dtype)


def cast_to(node: OnnxNode, x: Tensor, kind: int) -> Tensor:
    """Return numbers as those of another type; those that depend on the image keep their gradient.

    Args:
        node: has the attributes of the cast.
        x: the numbers, of any shape.
        kind: ONNX's number of the type.
    """
    if kind == TensorProto.STRING:
        raise node.refuse("to texts")
    if kind in NARROW_FLOATS:
        direction = node.get("round_mode", "up")
        return narrow_float(x.float(), kind, saturate=bool(node.get("saturate", 1)), direction=direction)
    if kind == TensorProto.BOOL:
        return x.detach() != 0
    if not is_integer_type(kind):
        return x.to(torch_type(kind))
    if x.dtype == torch.bool:
        whole = x.to(torch_type(kind))
    elif kind in NARROW_INTEGERS:
        low, high = NARROW_INTEGERS[kind]  # the lowest bits are kept, as in C
        whole = (positions(x.trunc() if x.is_floating_point() else x) - low) % (high - low + 1) + low
    else:
        whole = x.detach().to(torch_type(kind))
    if not node.on_image or not x.is_floating_point():
        return whole.to(torch_type(kind))
    return straight_through(x.to(held_type(kind)), whole.to(held_type(kind)))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * (x.clamp(min=0) + alpha * torch.expm1(x.clamp(max=0)))


def _shrink(x: Tensor, bias: float, lambd: float) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero))


def _is_infinite(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    negative, positive = bool(node.get("detect_negative", 1)), bool(node.get("detect_positive", 1))
    return (torch.isneginf(x) & negative) | (torch.isposinf(x) & positive)


def _where(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    condition, a, b = inputs
    return torch.where(condition != 0 if condition.dtype != torch.bool else condition, a, b)


def _swish(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _not(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.logical_not(inputs[0])


def _truth(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0], inputs[1])


def _elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _celu(x: Tensor, alpha: float) -> Tensor:
    return F.celu(x, alpha)


def gelu(x: Tensor, approximate: str) -> Tensor:
    """Return x times the normal distribution's function of x, or its approximation by tanh."""
    return F.gelu(x, approximate=approximate)


def identity(node: OnnxNode, inputs: Sequence[Tensor]) -> Tensor:
    """Return the first input."""
    return inputs[0]


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Abs": unary(torch.abs),
        "Acos": unary(torch.acos),
        "Acosh": unary(torch.acosh),
        "Add": binary(torch.add),
        "And": _truth(torch.logical_and),
        "Asin": unary(torch.asin),
        "Asinh": unary(torch.asinh),
        "Atan": unary(torch.atan),
        "Atanh": unary(torch.atanh),
        "BitShift": _shift_bits,
        "BitwiseAnd": _bitwise(torch.bitwise_and),
        "BitwiseNot": _flip_bits,
        "BitwiseOr": _bitwise(torch.bitwise_or),
        "BitwiseXor": _bitwise(torch.bitwise_xor),
        "Cast": _cast,
        "CastLike": _cast_like,
        "Ceil": _round_off(torch.ceil),
        "Celu": unary(_celu, alpha=1.0),
        "Clip": _clip,
        "Cos": unary(torch.cos),
        "Cosh": unary(torch.cosh),
        "Div": _divide,
        "Elu": unary(_elu, alpha=1.0),
        "Equal": _comparison(torch.eq),
        "Erf": unary(torch.erf),
        "Exp": unary(torch.exp),
        "Floor": _round_off(torch.floor),
        "Gelu": unary(gelu, approximate="none"),
        "Greater": _comparison(torch.gt),
        "GreaterOrEqual": _comparison(torch.ge),
        "HardSigmoid": unary(_hard_sigmoid, alpha=0.2, beta=0.5),
        "HardSwish": unary(F.hardswish),
        "Identity": identity,
        "IsInf": _is_infinite,
        "IsNaN": unary(torch.isnan),
        "LeakyRelu": unary(F.leaky_relu, alpha=0.01),
        "Less": _comparison(torch.lt),
        "LessOrEqual": _comparison(torch.le),
        "Log": unary(torch.log),
        "Max": _several(torch.maximum),
        "Mean": _mean,
        "Min": _several(torch.minimum),
        "Mish": unary(F.mish),
        "Mod": _remainder,
        "Mul": binary(torch.mul),
        "Neg": unary(torch.neg),
        "Not": _not,
        "Or": _truth(torch.logical_or),
        "PRelu": binary(_prelu),
        "Pow": _power,
        "Reciprocal": unary(torch.reciprocal),
        "Relu": unary(F.relu),
        "Round": _round_off(torch.round),
        "Selu": unary(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
        "Shrink": unary(_shrink, bias=0.0, lambd=0.5),
        "Sigmoid": unary(torch.sigmoid),
        "Sign": _sign,
        "Sin": unary(torch.sin),
        "Sinh": unary(torch.sinh),
        "Softplus": unary(F.softplus),
        "Softsign": unary(F.softsign),
        "Sqrt": unary(torch.sqrt),
        "Sub": binary(torch.sub),
        "Sum": _several(torch.add),
        "Swish": unary(_swish, alpha=1.0),
        "Tan": unary(torch.tan),
        "Tanh": unary(torch.tanh),
        "ThresholdedRelu": unary(lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x)), alpha=1.0),
        "Where": _where,
        "Xor": _truth(torch.logical_xor),
    }
)
