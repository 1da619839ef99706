"""Attention, as the standard defines it since opset 23."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import OnnxNode, Operator, optional, torch_type


def heads(x: Tensor, count: int) -> Tensor:
    """Return (N, S, heads * D) as (N, heads, S, D)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _attention(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    q, k, v = inputs[:3]
    flat = q.dim() == 3
    if flat:
        q = heads(q, node.attributes["q_num_heads"])
        k, v = (heads(x, node.attributes["kv_num_heads"]) for x in (k, v))
    past_k, past_v = optional(inputs, 4), optional(inputs, 5)
    k = k if past_k is None else torch.cat([past_k, k], 2)
    v = v if past_v is None else torch.cat([past_v, v], 2)
    earlier = 0 if past_k is None else past_k.shape[2]
    bias = _bias(node, inputs, q, k, earlier=earlier)
    groups = q.shape[1] // k.shape[1]
    all_k, all_v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))
    # Both factors get the root of the scale, as in the standard's definition: its half floats do not overflow.
    root = node.get("scale", q.shape[-1] ** -0.5) ** 0.5
    scores = (q * root) @ (all_k * root).transpose(-1, -2)
    cap = node.get("softcap", 0.0)
    capped = cap * torch.tanh(scores / cap) if cap else scores
    seen = capped if bias is None else capped + bias
    dtype = torch_type(node.attributes["softmax_precision"]) if "softmax_precision" in node.attributes else q.dtype
    share = _softmax(seen.to(dtype), masked=bias is not None).to(q.dtype)
    stages = (scores, capped, seen, share)
    y = share @ all_v
    return y.transpose(1, 2).flatten(2) if flat else y, k, v, stages[node.get("qk_matmul_output_mode", 0)]


def _softmax(scores: Tensor, *, masked: bool) -> Tensor:
    """Return the softmax over the last axis, 0 in rows that see nothing."""
    if not masked:
        return torch.softmax(scores, -1)
    blind = (scores == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)


def _bias(node: OnnxNode, inputs: list[Tensor], q: Tensor, k: Tensor, *, earlier: int) -> Tensor | None:
    """Return what is added to the scores, which broadcasts to (N, heads, S, L): -inf where a position is not seen.

    Args:
        node: with its attributes.
        inputs: of the node.
        q: (N, heads, S, D).
        k: (N, heads, L, D).
        earlier: how many positions come before those of q.
    """
    mask, valid = optional(inputs, 3), optional(inputs, 6)
    size, length = q.shape[2], k.shape[2]
    bias = None
    if mask is not None:
        bias = q.new_zeros(()).masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
        if bias.shape[-1] < length:  # positions that a shorter mask does not name are not seen
            bias = torch.nn.functional.pad(bias, (0, length - bias.shape[-1]), value=-torch.inf)
    where = torch.arange(length, device=q.device)
    hidden = None
    if valid is not None:
        hidden = (where >= valid[:, None])[:, None, None]  # (N, 1, 1, L)
    left, right = node.get("left_window_size", -1), node.get("right_window_size", -1)
    right = 0 if node.get("is_causal", 0) else right
    if left >= 0 or right >= 0:
        before = torch.full((1,), earlier, device=q.device) if valid is None else valid - size
        own = (torch.arange(size, device=q.device) + before[:, None])[:, None, :, None]  # (N or 1, 1, S, 1)
        for outside in ([where < own - left] if left >= 0 else []) + ([where > own + right] if right >= 0 else []):
            hidden = outside if hidden is None else hidden | outside
    if hidden is None:
        return bias
    return q.new_zeros(()).masked_fill(hidden, -torch.inf) if bias is None else bias.masked_fill(hidden, -torch.inf)


OPERATORS: Mapping[str, Operator] = MappingProxyType({"Attention": _attention})
