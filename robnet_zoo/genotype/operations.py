"""The operations that an α tensor may switch on: each a name, its layers as data, and whether it is a convolution.

To add an operation, add an entry to `OPERATIONS`. Nothing else has to know its name: specs, counts, modules, the fast
forms, ONNX files, the search and the drawings follow from its layers. Only a new kind of layer needs more than this
file: a class in `robnet_zoo.genotype.layers`, its module in `robnet_zoo.nn.layers`, and its ONNX nodes in
`robnet_zoo.converters.onnx.graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from robnet_zoo.genotype.layers import Block, Conv, Norm, Pool, Relu, factorized_reduction


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

    @cached_property
    def keeps_zero(self) -> bool:
        """Return whether zeros stay zeros, whatever the weights, at stride 1: only a norm adds something."""
        return not any(isinstance(layer, Norm) for layer in self.layers(2, 1, False))


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
