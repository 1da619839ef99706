"""Rounding to the numbers of a narrow type, with gradients that pass it and stop where it saturates."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import (
    FLOAT4_VALUES,
    FLOAT8,
    NARROW_INTEGERS,
    POWERS,
    rounded,
    straight_through,
)
from robnet_zoo.errors import UnsupportedError

LARGEST_POWER = 127


def narrow_integers(x: Tensor, zero_point: Tensor | None, kind: int, *, rounds: bool = True) -> Tensor:
    """Return numbers, in units of their scale, as integers of a narrow type: round(x) + zero_point, saturated.

    The bounds are applied before the rounding, as in ONNX Runtime, which gives the same.

    Args:
        x: of float32.
        zero_point: of a shape that broadcasts to x's, or None for 0.
        kind: ONNX's number of the type. Raises UnsupportedError if it is not a narrow integer.
        rounds: without that, the numbers saturate only.
    """
    low, high = integer_range(kind)
    if zero_point is None:
        inside = x.clamp(low, high)
        return rounded(inside) if rounds else inside
    zero_point = zero_point.to(x.dtype)
    inside = torch.clamp(x, low - zero_point, high - zero_point)
    return (rounded(inside) if rounds else inside) + zero_point


def integer_range(kind: int) -> tuple[int, int]:
    """Return the smallest and the largest integer of a narrow type, by ONNX's number. Raises UnsupportedError."""
    if kind not in NARROW_INTEGERS:
        raise UnsupportedError(f"expected integers of at most 16 bits, got ONNX's type {kind}")
    return NARROW_INTEGERS[kind]


def narrow_float(x: Tensor, kind: int, *, saturate: bool = True, rounds: bool = True, direction: str = "up") -> Tensor:
    """Return numbers rounded to those of a floating-point type of up to eight bits, as float32.

    Args:
        x: of float32.
        kind: ONNX's number of the type.
        saturate: whether numbers out of range become the largest; otherwise they become infinite or NaN.
        rounds: without that, numbers out of range become the largest, and nothing else changes.
        direction: up, down or nearest, in which numbers are rounded to powers of two.
    """
    if kind == POWERS:
        return _power_of_two(x, saturate=saturate, rounds=rounds, direction=direction)
    if not rounds:
        largest = float(torch.finfo(FLOAT8[kind]).max) if kind in FLOAT8 else FLOAT4_VALUES[-1]
        return x.clamp(-largest, largest)
    if kind not in FLOAT8:
        magnitudes = torch.tensor(FLOAT4_VALUES, device=x.device)
        middles = (magnitudes[1:] + magnitudes[:-1]) / 2
        inside = x.clamp(-FLOAT4_VALUES[-1], FLOAT4_VALUES[-1])
        size = inside.detach().abs().nan_to_num(0)  # NaN, which the type does not have, becomes 0
        index = torch.bucketize(size, middles)  # a half goes to the lower neighbour
        odd_half = (index < len(middles)) & (size == middles[index.clamp(max=len(middles) - 1)]) & (index % 2 == 1)
        return straight_through(inside, magnitudes[index + odd_half.long()].copysign(x.detach()))
    dtype = FLOAT8[kind]
    largest = torch.finfo(dtype).max
    inside = x.clamp(-largest, largest)  # NaN stays
    value = (inside if saturate else x).detach().to(dtype).float()
    if not saturate and kind == TensorProto.FLOAT8E4M3FN:  # where torch saturates all the same
        value = value.where(x.detach().abs() < largest + 32 / 2, torch.nan)  # half a step beyond the largest
    return straight_through(inside, value)


def _power_of_two(x: Tensor, *, saturate: bool, rounds: bool, direction: str) -> Tensor:
    """Return positive numbers rounded to powers of two; the arguments are those of `narrow_float`."""
    inside = x.clamp(2.0**-LARGEST_POWER, 2.0**LARGEST_POWER)
    if not rounds:
        return inside
    mantissa, power = torch.frexp(inside.detach().double())  # the mantissa is from 0.5 to 1
    upwards = {"up": mantissa > 0.5, "nearest": mantissa >= 0.75, "down": mantissa >= 1}[direction]
    value = torch.ldexp(torch.ones_like(mantissa), power - 1 + upwards.int()).clamp(max=2.0**LARGEST_POWER).float()
    known = ~x.detach().isnan() if saturate else x.detach() == inside.detach()
    value = value.where(known, torch.nan)
    return straight_through(inside, value)
