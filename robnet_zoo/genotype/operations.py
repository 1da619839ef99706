"""The layers that every block is made of, as data, and the operations that an α tensor may switch on.

A block is a tuple of layers. Modules, parameter counts, multiply-adds and exports are all read from it,
so they cannot disagree. Nothing here imports torch.

To add an operation, add an entry to `OPERATIONS`; no other file has to know its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

DenoiseForm = Literal["dot_product", "embedded_gaussian", "mean", "median"]
DENOISE_FORMS: tuple[DenoiseForm, ...] = get_args(DenoiseForm)
Size = tuple[int, int]  # (H, W) in pixels


class _Free:
    """A layer that keeps the size, learns nothing and multiplies nothing."""

    def output_size(self, size: Size) -> Size:
        return size

    def parameters(self) -> int:
        return 0

    def multiply_adds(self, size: Size) -> int:
        return 0


@dataclass(frozen=True)
class Relu(_Free):
    """max(x, 0)."""


@dataclass(frozen=True)
class Norm:
    """Batch normalisation over `channels`, with or without a learned scale and shift."""

    channels: int
    affine: bool

    def output_size(self, size: Size) -> Size:
        return size

    def parameters(self) -> int:
        return 2 * self.channels if self.affine else 0

    def multiply_adds(self, size: Size) -> int:
        return 0  # folds into the convolution before it


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, padded so that stride 1 keeps the size (odd kernels only)."""

    in_channels: int
    out_channels: int
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    dilation: int = 1
    groups: int = 1

    @property
    def padding(self) -> Size:
        return (self.dilation * (self.kernel[0] - 1) // 2, self.dilation * (self.kernel[1] - 1) // 2)

    def output_size(self, size: Size) -> Size:
        return (-(-size[0] // self.stride[0]), -(-size[1] // self.stride[1]))

    def parameters(self) -> int:
        return self.out_channels * (self.in_channels // self.groups) * self.kernel[0] * self.kernel[1]

    def multiply_adds(self, size: Size) -> int:
        height, width = self.output_size(size)
        return height * width * self.parameters()


@dataclass(frozen=True)
class FactorizedConv:
    """Halves the size: two 1x1 stride-2 convolutions of half the channels, concatenated.

    The second one sees the input shifted by one pixel down and right: `x[:, :, 1:, 1:]`.
    `out_channels` and both sides of the input must be even.
    """

    in_channels: int
    out_channels: int

    def output_size(self, size: Size) -> Size:
        return (size[0] // 2, size[1] // 2)

    def parameters(self) -> int:
        return self.out_channels * self.in_channels

    def multiply_adds(self, size: Size) -> int:
        height, width = self.output_size(size)
        return height * width * self.parameters()


@dataclass(frozen=True)
class Pool:
    """Max or average pooling, padded so that stride 1 keeps the size; the average leaves the padding out."""

    kind: Literal["max", "avg"]
    kernel: int
    stride: int

    def output_size(self, size: Size) -> Size:
        return (-(-size[0] // self.stride), -(-size[1] // self.stride))

    def parameters(self) -> int:
        return 0

    def multiply_adds(self, size: Size) -> int:
        return 0


@dataclass(frozen=True)
class NonLocal:
    """Every pixel becomes a sum over all pixels, each weighted by its likeness to it (Xie et al., 2019, equation 2).

    dot_product: x_i . x_j / (H * W). embedded_gaussian: the softmax over j of theta(x_i) . phi(x_j) / sqrt(d), where
    theta and phi are 1x1 convolutions without bias to d = C / 2 channels, rounded down but at least one.
    """

    channels: int
    kind: Literal["dot_product", "embedded_gaussian"]

    @property
    def embedding(self) -> int:
        """d, 0 where pixels are compared as they are."""
        return max(1, self.channels // 2) if self.kind == "embedded_gaussian" else 0

    def output_size(self, size: Size) -> Size:
        return size

    def parameters(self) -> int:
        return 2 * self.channels * self.embedding

    def multiply_adds(self, size: Size) -> int:
        pixels = size[0] * size[1]
        if self.embedding:
            return pixels * self.parameters() + pixels * pixels * (self.embedding + self.channels)
        return 2 * pixels * self.channels * min(pixels, self.channels)  # in the cheaper order of the two products


@dataclass(frozen=True)
class Median(_Free):
    """The median of each channel's 3x3 pixels; the image's edge is repeated around it."""


# Exchanges, each of which puts the smaller value first, after which the fifth of nine values is their median.
MEDIAN_OF_NINE = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),  # rows
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)

Layer = Relu | Norm | Conv | FactorizedConv | Pool | NonLocal | Median
Block = tuple[Layer, ...]


def output_size(block: Block, size: Size) -> Size:
    """(H, W) behind a block whose input has (H, W) = size."""
    for layer in block:
        size = layer.output_size(size)
    return size


def multiply_adds(block: Block, size: Size) -> int:
    """Multiply-adds of a block for one image of (H, W) = size. A padded tap counts as a computed one."""
    total = 0
    for layer in block:
        total += layer.multiply_adds(size)
        size = layer.output_size(size)
    return total


def parameters(block: Block) -> int:
    """Learned numbers in a block."""
    return sum(layer.parameters() for layer in block)


def pointwise(in_channels: int, out_channels: int, *, affine: bool) -> Block:
    """ReLU, 1x1 convolution, batch norm: what a cell does to each of its inputs."""
    return (Relu(), Conv(in_channels, out_channels), Norm(out_channels, affine))


def factorized_reduction(in_channels: int, out_channels: int, *, affine: bool) -> Block:
    """ReLU, factorized convolution, batch norm: halves the size."""
    return (Relu(), FactorizedConv(in_channels, out_channels), Norm(out_channels, affine))


def denoising(channels: int, form: DenoiseForm) -> Block:
    """What a denoising block adds to its input (Xie et al., 2019, figure 4): a filter, 1x1 convolution, batch norm."""
    filter: Layer
    match form:
        case "mean":
            filter = Pool("avg", 3, 1)
        case "median":
            filter = Median()
        case _:
            filter = NonLocal(channels, form)
    return (filter, Conv(channels, channels), Norm(channels, affine=True))


def _identity(channels: int, stride: int, affine: bool) -> Block:
    return () if stride == 1 else factorized_reduction(channels, channels, affine=affine)


def _separable(kernel: int) -> Callable[[int, int, bool], Block]:
    def layers(channels: int, stride: int, affine: bool) -> Block:
        def half(stride: int) -> Block:
            depthwise = Conv(channels, channels, (kernel, kernel), (stride, stride), groups=channels)
            return (Relu(), depthwise, Conv(channels, channels), Norm(channels, affine))

        return half(stride) + half(1)

    return layers


def _dilated(kernel: int) -> Callable[[int, int, bool], Block]:
    def layers(channels: int, stride: int, affine: bool) -> Block:
        depthwise = Conv(channels, channels, (kernel, kernel), (stride, stride), dilation=2, groups=channels)
        return (Relu(), depthwise, Conv(channels, channels), Norm(channels, affine))

    return layers


def _conv_7x1_1x7(channels: int, stride: int, affine: bool) -> Block:
    row = Conv(channels, channels, (1, 7), (1, stride))
    column = Conv(channels, channels, (7, 1), (stride, 1))
    return (Relu(), row, column, Norm(channels, affine))


def _pool(kind: Literal["max", "avg"]) -> Callable[[int, int, bool], Block]:
    return lambda channels, stride, affine: (Pool(kind, 3, stride),)


@dataclass(frozen=True)
class Operation:
    """One candidate operation o_k of the search space.

    layers: (channels, stride, affine) -> the block. The number of channels stays; stride is 1, or 2 on the
    edges that leave a reduction cell's inputs.
    is_conv: whether it counts as a convolution in budgets and in the direct/skip counts (paper, section 3.4).
    """

    layers: Callable[[int, int, bool], Block]
    is_conv: bool


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "identity": Operation(_identity, is_conv=False),
        "sep_conv_3x3": Operation(_separable(3), is_conv=True),
        "sep_conv_5x5": Operation(_separable(5), is_conv=True),
        "sep_conv_7x7": Operation(_separable(7), is_conv=True),
        "dil_conv_3x3": Operation(_dilated(3), is_conv=True),
        "dil_conv_5x5": Operation(_dilated(5), is_conv=True),
        "conv_7x1_1x7": Operation(_conv_7x1_1x7, is_conv=True),
        "max_pool_3x3": Operation(_pool("max"), is_conv=False),
        "avg_pool_3x3": Operation(_pool("avg"), is_conv=False),
    }
)
