"""Memory layout: activations whose pixels and gradients stay in channels-last order, and what is derived from them.

Autograd gives some gradients in the default layout, which puts every earlier layer on the slow path. The functions
here keep the layout in both directions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Activation:
    """The output of a node: x, (N, C, H, W), and what is derived from it, at most once."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._relu: Tensor | None = None
        self._halves: tuple[Tensor, Tensor] | None = None

    @property
    def relu(self) -> Tensor:
        """Return max(x, 0), (N, C, H, W)."""
        if self._relu is None:
            self._relu = F.relu(self.x)
        return self._relu

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the rectified pixels with even, and those with odd, coordinates: two of (N, C, H/2, W/2)."""
        if self._halves is None:
            self._halves = (every_second(self.relu), every_second(self.relu, start=1))
        return self._halves


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is a matrix product over pixels."""
    return conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.groups == 1


def pixels(x: Tensor) -> Tensor:
    """Return an image (N, C, H, W) in channels-last layout as (N * H * W, C), without a copy."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """Return (N * H * W, C) as (N, C, H, W) in channels-last layout, N, H and W as in `like`, without a copy."""
    return rows.view(like.shape[0], like.shape[2], like.shape[3], rows.shape[1]).permute(0, 3, 1, 2)


def every_second(x: Tensor, *, start: int = 0) -> Tensor:
    """Return every second pixel from (start, start) on: (N, C, H/2, W/2), dense, in the layout of x."""
    return _EverySecond.apply(x, start)


def keep_layout(x: Tensor) -> Tensor:
    """Return x, with a gradient that gets x's layout.

    The gradient of the mean over pixels does not keep a layout, which would put every earlier layer on the slow path.
    """
    return _KeepLayout.apply(x)


class _EverySecond(torch.autograd.Function):
    """A strided slice whose gradient has the layout of its input: autograd's own is always in the default one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: int) -> Tensor:
        ctx.shape, ctx.start, ctx.layout = x.shape, start, layout_of(x)
        return x[:, :, start::2, start::2].contiguous(memory_format=ctx.layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.layout).zero_()
        whole[:, :, ctx.start :: 2, ctx.start :: 2] = gradient
        return whole, None


class _KeepLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.layout = layout_of(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=ctx.layout)


def layout_of(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
