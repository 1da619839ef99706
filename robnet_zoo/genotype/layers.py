"""Layers as data, and blocks of them: what a network consists of, before there is a module.

A block is a tuple of layers. Modules, parameter counts, multiply-adds and ONNX graphs are all read from it, so they
cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """The rectifier max(x, 0)."""


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
    """A convolution that halves the size: two 1x1 stride-2 convolutions of half the channels, concatenated.

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
        """Return d, or 0 where pixels are compared as they are."""
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
    """Return (H, W) behind a block whose input has (H, W) = size."""
    for layer in block:
        size = layer.output_size(size)
    return size


def multiply_adds(block: Block, size: Size) -> int:
    """Return the multiply-adds of a block for one image of (H, W) = size. Padded taps count."""
    total = 0
    for layer in block:
        total += layer.multiply_adds(size)
        size = layer.output_size(size)
    return total


def parameters(block: Block) -> int:
    """Return how many parameters a block has."""
    return sum(layer.parameters() for layer in block)


def pointwise(in_channels: int, out_channels: int, *, affine: bool) -> Block:
    """Return ReLU, 1x1 convolution, batch norm: the block behind each input of a cell.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        affine: whether the norm learns a scale and a shift.
    """
    return (Relu(), Conv(in_channels, out_channels), Norm(out_channels, affine))


def factorized_reduction(in_channels: int, out_channels: int, *, affine: bool) -> Block:
    """Return ReLU, factorized convolution, batch norm: a block that halves the size.

    Args:
        in_channels: of the input.
        out_channels: of the output, an even number.
        affine: whether the norm learns a scale and a shift.
    """
    return (Relu(), FactorizedConv(in_channels, out_channels), Norm(out_channels, affine))


def denoising(channels: int, form: DenoiseForm) -> Block:
    """Return what a denoising block adds to its input (Xie et al., 2019, figure 4): filter, 1x1 convolution, norm."""
    filter: Layer
    match form:
        case "mean":
            filter = Pool("avg", 3, 1)
        case "median":
            filter = Median()
        case _:
            filter = NonLocal(channels, form)
    return (filter, Conv(channels, channels), Norm(channels, affine=True))
