"""The modules of layers: the only file in which a kind of layer meets torch."""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.genotype.layers import (
    MEDIAN_OF_NINE,
    Block,
    Conv,
    FactorizedConv,
    Layer,
    Median,
    NonLocal,
    Norm,
    Pool,
    Relu,
)


class FactorizedConv2d(nn.Module):
    """A convolution that halves the size, (N, in, H, W) -> (N, out, H/2, W/2): see `genotype.layers.FactorizedConv`."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=bias)
        self.conv_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1)  # (N, out, H/2, W/2)


def _weighed_by_products(pixels: Tensor) -> Tensor:
    """Return the sum over j of x_j (x_j . x_i) / HW, for each i: (N, HW, C) -> (N, HW, C)."""
    turned = pixels.transpose(1, 2)
    if pixels.shape[1] < pixels.shape[2]:  # the cheaper order of the same products
        return (pixels @ turned) @ pixels / pixels.shape[1]
    return pixels @ (turned @ pixels) / pixels.shape[1]


torch.fx.wrap("_weighed_by_products")  # a tracer cannot see which order is the cheaper one


class DotProduct2d(nn.Module):
    """A non-local mean by dot products, (N, C, H, W) -> (N, C, H, W): see `genotype.layers.NonLocal`."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        return _weighed_by_products(pixels).transpose(1, 2).reshape(x.shape)  # in channels-last layout


class EmbeddedGaussian2d(nn.Module):
    """A non-local mean by a softmax, (N, C, H, W) -> (N, C, H, W): see `genotype.layers.NonLocal`. embedding: its d."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, embedding, 1, bias=False)
        self.phi = nn.Conv2d(channels, embedding, 1, bias=False)
        self.scale = embedding**-0.5
        for conv in (self.theta, self.phi):
            nn.init.normal_(conv.weight, std=0.01)  # at first, all pixels weigh nearly the same

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        queries = F.linear(pixels, self.theta.weight.flatten(1).to(x.dtype))  # (N, HW, d)
        keys = F.linear(pixels, self.phi.weight.flatten(1).to(x.dtype))
        likeness = queries @ keys.transpose(1, 2) * self.scale  # (N, HW, HW)
        mixed = likeness.softmax(dim=2) @ pixels  # (N, HW, C)
        return mixed.transpose(1, 2).reshape(x.shape)  # in channels-last layout


class Median2d(nn.Module):
    """A median filter, (N, C, H, W) -> (N, C, H, W): see `genotype.layers.Median`."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges = list(MEDIAN_OF_NINE)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        x = F.pad(x, [1, 1, 1, 1], mode="replicate")
        values = [x[:, :, k // 3 : k // 3 + height, k % 3 : k % 3 + width] for k in range(9)]
        for first, second in self.exchanges:
            low, high = torch.minimum(values[first], values[second]), torch.maximum(values[first], values[second])
            values[first], values[second] = low, high
        return values[4]


def zero_node(last: Tensor, channels: int, stride: int) -> Tensor:
    """Return a node of a cell that no edge leads to: zeros, (N, channels, H / stride, W / stride).

    Args:
        last: the cell's second input, (N, C, H, W).
        channels: of a node.
        stride: how many times smaller a node is than the input.
    """
    height, width = (last.shape[2] + stride - 1) // stride, (last.shape[3] + stride - 1) // stride
    return last.new_zeros([last.shape[0], channels, height, width])


class Denoising(nn.Sequential):
    """x + filter, 1x1 convolution and norm of x: (N, C, H, W) -> (N, C, H, W); see `genotype.layers.denoising`."""

    def __init__(self, block: Block) -> None:
        super().__init__(*build(block))
        for norm in self:
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.zeros_(norm.weight)  # an untrained block passes its input on

    def forward(self, x: Tensor) -> Tensor:
        added = x
        for layer in self:
            added = layer(added)
        return x + added


def build(block: Block) -> nn.Sequential:
    """Return the module of a block; layer i of the block is child `i`, so weight keys follow the layers."""
    return nn.Sequential(*[_build_layer(layer) for layer in block])


def _build_layer(layer: Layer) -> nn.Module:
    match layer:
        case Relu():
            return nn.ReLU()
        case Norm(channels, affine):
            return nn.BatchNorm2d(channels, affine=affine)
        case Conv():
            return nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
                bias=False,
            )
        case FactorizedConv(in_channels, out_channels):
            return FactorizedConv2d(in_channels, out_channels)
        case NonLocal(channels, "embedded_gaussian"):
            return EmbeddedGaussian2d(channels, layer.embedding)
        case NonLocal():
            return DotProduct2d()
        case Median():
            return Median2d()
        case Pool("max", kernel, stride):
            return nn.MaxPool2d(kernel, stride, kernel // 2)
        case Pool(_, kernel, stride):
            return nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
