"""Products of matrices and of tensors, determinants and Fourier transforms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional, unary


def _matmul(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = inputs
    if a.dtype == b.dtype and a.is_floating_point():
        return a @ b
    product = a.double() @ b.double()
    return product if a.is_floating_point() or b.is_floating_point() else product.to(a.dtype)


def _gemm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b, c = inputs[0], inputs[1], optional(inputs, 2)
    a = a.t() if node.get("transA", 0) else a
    b = b.t() if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if c is None:
        return alpha * (a @ b)
    return torch.addmm(c, a, b, beta=beta, alpha=alpha) if a.is_floating_point() else alpha * (a @ b) + beta * c


def _einsum(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return torch.einsum(node.attributes["equation"], *inputs)


def _fourier(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return the discrete Fourier transform along an axis; complex numbers are pairs along the last."""
    x, length, given = inputs[0], optional(inputs, 1), optional(inputs, 2)
    axis = node.get("axis", 1) if node.opset < 20 else -2 if given is None else int(given)
    inverse, half = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    axis = axis % x.dim()
    whole = 2 * (x.shape[axis] - 1) if half and inverse else x.shape[axis]
    size = whole if length is None else int(length)
    pairs = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]
    if half and inverse:
        return torch.fft.irfft(pairs, size, axis).unsqueeze(-1)
    if inverse:
        result = torch.fft.ifft(pairs, size, axis)
    else:
        result = torch.fft.fft(pairs, size, axis)
        result = result.narrow(axis, 0, size // 2 + 1) if half else result
    return torch.view_as_real(result)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "DFT": _fourier,
        "Det": unary(torch.linalg.det),
        "Einsum": _einsum,
        "Gemm": _gemm,
        "MatMul": _matmul,
    }
)
