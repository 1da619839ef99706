"""Operators that ONNX Runtime's optimiser and its quantiser of weights write in the place of several of the standard.

Their definitions are those of its own domain, com.microsoft.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.attention import heads
from robnet_zoo.converters.onnx.operators.convolution import convolve
from robnet_zoo.converters.onnx.operators.elementwise import gelu
from robnet_zoo.converters.onnx.operators.node import MICROSOFT, OnnxNode, Operator, held, optional, unary
from robnet_zoo.converters.onnx.operators.normalisation import normalised_last, rms_normalised
from robnet_zoo.converters.onnx.operators.pooling import OPERATORS as POOLING
from robnet_zoo.converters.onnx.operators.quantised import integer_projection

ACTIVATIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        "Relu": F.relu,
        "Tanh": torch.tanh,
        "Sigmoid": torch.sigmoid,
        "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
        "Clip": lambda x, low=-torch.inf, high=torch.inf: x.clamp(low, high),
        "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
        "HardSwish": lambda x, *alpha_and_beta: F.hardswish(x),
        "Elu": lambda x, alpha=1.0: F.elu(x, alpha),
    }
)


def _activated(node: OnnxNode, y: Tensor, *parameters: float) -> Tensor:
    """Return an activation, which a node names, of its result."""
    name = node.get("activation", "")
    if name and name not in ACTIVATIONS:
        raise node.refuse(f"with the activation {name}")
    return ACTIVATIONS[name](y, *parameters) if name else y


def fused_conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return a convolution with a node's attributes, to which an image may be added before the activation."""
    y, summand = convolve(node, inputs[0], inputs[1], optional(inputs, 2)), optional(inputs, 3)
    y = y if summand is None else y + summand
    return _activated(node, y, *node.get("activation_params", []))


def _fused_gemm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b, c = inputs[0], inputs[1], optional(inputs, 2)
    a = a.t() if node.get("transA", 0) else a
    b = b.t() if node.get("transB", 0) else b
    y = node.get("alpha", 1.0) * (a @ b)
    y = y if c is None else y + node.get("beta", 1.0) * c
    given = (node.get(f"activation_{name}") for name in ("alpha", "beta", "gamma"))
    return _activated(node, y, *(value for value in given if value is not None))


def _fused_matmul(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    a, b = (_turned(node, x, which) for x, which in zip(inputs, "AB", strict=False))
    return node.get("alpha", 1.0) * (a @ b)


def _turned(node: OnnxNode, x: Tensor, which: str) -> Tensor:
    """Return a factor of a product with the axes that a node transposes transposed."""
    if node.get(f"transBatch{which}", 0):  # the first axis becomes the last but one
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if node.get(f"trans{which}", 0) else x


def _bias_gelu(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return F.gelu(inputs[0] + inputs[1])


def _fast_gelu(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    bias = optional(inputs, 1)
    return gelu(inputs[0] if bias is None else inputs[0] + bias, "tanh")


def _quick_gelu(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _simplified_layer_norm(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    return rms_normalised(inputs[0], node.get("axis", -1), inputs[1], node.get("epsilon", 1e-5))


def _skip_layer_norm(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    total = _skipped(node, inputs, 4)
    return normalised_last(total, -1, inputs[2], optional(inputs, 3), node.get("epsilon", 1e-12)), total, total, total


def _skip_simplified_layer_norm(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    total = _skipped(node, inputs, 3)
    return rms_normalised(total, -1, inputs[2], node.get("epsilon", 1e-12)), total, total, total


def _skipped(node: OnnxNode, inputs: list[Tensor], position: int) -> Tensor:
    """Return the sum of the first two inputs and of a bias, if there is one; it is the fourth output of a node.

    Those before it, mean and deviation, are for training and not computed.
    """
    if any(node.outputs[1:3]):
        raise node.refuse("with its statistics as outputs")
    bias = optional(inputs, position)
    total = inputs[0] + inputs[1]
    return total if bias is None else total + bias


# Attention


def _attend(node: OnnxNode, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Return attention.

    Args:
        node: with its scale and whether a position sees only those up to itself.
        q: (N, heads, S, D).
        k: (N, heads, L, D).
        v: (N, heads, L, E).
        bias: added to the scores; it broadcasts to (N, heads, S, L).

    Returns: (N, S, heads * E).
    """
    scale = node.get("scale", 0.0) or q.shape[-1] ** -0.5
    scores = (q * scale) @ k.transpose(-1, -2)
    scores = scores if bias is None else scores + bias
    if node.get("unidirectional", 0):
        size, length = scores.shape[-2:]
        later = torch.ones(size, length, dtype=torch.bool, device=q.device).triu(length - size + 1)
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _refuse_masks(node: OnnxNode, inputs: list[Tensor], positions: Mapping[int, str]) -> None:
    for position, name in positions.items():
        if optional(inputs, position) is not None:
            raise node.refuse(f"with {name}")


def _multi_head_attention(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    _refuse_masks(node, inputs, {4: "a padding mask", 6: "past keys", 7: "past values"})
    count, bias = node.attributes["num_heads"], optional(inputs, 3)
    q, k, v = inputs[0], optional(inputs, 1), optional(inputs, 2)
    if q.dim() == 5:  # (N, S, heads, 3, D)
        parts = [part.transpose(1, 2) for part in q.unbind(3)]
    elif k is not None and k.dim() == 5:  # (N, L, heads, 2, D)
        parts = [heads(q, count), *(part.transpose(1, 2) for part in k.unbind(3))]
    elif k is not None and v is not None:  # keys and values may be split into heads already
        parts = [heads(q, count), *(x if x.dim() == 4 else heads(x, count) for x in (k, v))]
    else:
        raise node.refuse("without keys or values")
    if bias is not None:
        sizes = [part.shape[1] * part.shape[3] for part in parts]
        parts = [part + some.reshape(count, 1, -1) for part, some in zip(parts, bias.split(sizes), strict=True)]
    return _attend(node, parts[0], parts[1], parts[2], optional(inputs, 5))


def _attention(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    _refuse_masks(node, inputs, {3: "a mask", 4: "past keys", 6: "past lengths"})
    x, weight, bias = inputs[0], inputs[1], optional(inputs, 2)
    projected = x @ weight
    return _attend_projected(node, projected if bias is None else projected + bias, optional(inputs, 5))


def _attend_projected(node: OnnxNode, projected: Tensor, bias: Tensor | None) -> Tensor:
    """Return attention with queries, keys and values one behind the other in the last axis."""
    sizes = node.get("qkv_hidden_sizes") or [projected.shape[-1] // 3] * 3
    q, k, v = (heads(part, node.attributes["num_heads"]) for part in projected.split(list(sizes), -1))
    return _attend(node, q, k, v, bias)


def _quantised_attention(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    _refuse_masks(node, inputs, {5: "a mask", 8: "past keys"})
    x, weight, bias, x_scale, w_scale = inputs[:5]
    zeros = (optional(inputs, 6), optional(inputs, 7))
    projected = integer_projection(x, weight, x_scale * w_scale, zeros)
    return _attend_projected(node, projected + bias, None)


# Weights of few bits, and images whose channels come last


def _matmul_few_bits(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    """Return a product with weights of a few bits, which share a scale in blocks of `block_size`."""
    x, packed, scales, zero_points = inputs[0], inputs[1], inputs[2], optional(inputs, 3)
    _refuse_masks(node, inputs, {4: "an order of its rows"})
    bits, block, rows, columns = (node.get(name, 4) for name in ("bits", "block_size", "N", "K"))
    codes = _unpacked(packed.reshape(rows, -1), bits).reshape(rows, -1, block)  # (N, blocks, block)
    blocks = codes.shape[1]
    if zero_points is None:
        zeros: Tensor | float = float(2 ** (bits - 1))
    elif zero_points.is_floating_point():
        zeros = zero_points.reshape(rows, blocks, 1)
    else:
        zeros = _unpacked(zero_points.reshape(rows, -1), bits)[:, :blocks, None]
    weight = ((codes - zeros) * scales.reshape(rows, blocks, 1)).flatten(1)[:, :columns]  # (N, K)
    return F.linear(x, weight.to(x.dtype), optional(inputs, 5))


def _unpacked(packed: Tensor, bits: int) -> Tensor:
    """Return the numbers of a few bits each in bytes, the lowest bits first, as whole numbers in float32."""
    bytes_ = held(packed).long()
    shifts = torch.arange(0, 8, bits, device=packed.device)
    return ((bytes_[..., None] >> shifts) & (2**bits - 1)).flatten(-2).float()


def _nhwc_max_pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    y = POOLING["MaxPool"](replace(node, kind="MaxPool"), [held(inputs[0]).movedim(-1, 1)])
    assert isinstance(y, Tensor), "it has a single output"
    return y.movedim(1, -1)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "SimplifiedLayerNormalization": _simplified_layer_norm,  # which ONNX Runtime writes without a domain
        f"{MICROSOFT}.Attention": _attention,
        f"{MICROSOFT}.BiasGelu": _bias_gelu,
        f"{MICROSOFT}.FastGelu": _fast_gelu,
        f"{MICROSOFT}.FusedConv": fused_conv,
        f"{MICROSOFT}.FusedGemm": _fused_gemm,
        f"{MICROSOFT}.FusedMatMul": _fused_matmul,
        f"{MICROSOFT}.Gelu": unary(F.gelu),
        f"{MICROSOFT}.MatMulNBits": _matmul_few_bits,
        f"{MICROSOFT}.MultiHeadAttention": _multi_head_attention,
        f"{MICROSOFT}.NhwcMaxPool": _nhwc_max_pool,
        f"{MICROSOFT}.QAttention": _quantised_attention,
        f"{MICROSOFT}.QuickGelu": unary(_quick_gelu, alpha=1.702),
        f"{MICROSOFT}.SkipLayerNormalization": _skip_layer_norm,
        f"{MICROSOFT}.SkipSimplifiedLayerNormalization": _skip_simplified_layer_norm,
    }
)
