"""From layers as data to modules: the only place where a layer kind meets torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robnet_zoo.vocabulary import Block, Conv, FactorizedConv, Layer, Norm, Pool, Relu


class FactorizedConv2d(nn.Module):
    """(N, in, H, W) -> (N, out, H/2, W/2): see `vocabulary.FactorizedConv`."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=bias)
        self.conv_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1)  # (N, out, H/2, W/2)


def build(block: Block) -> nn.Sequential:
    """The module of a block; layer i of the block is child `i`, so weight keys follow the vocabulary."""
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
        case Pool("max", kernel, stride):
            return nn.MaxPool2d(kernel, stride, kernel // 2)
        case Pool(_, kernel, stride):
            return nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
