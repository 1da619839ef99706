"""The counts of a layer equal those of its module: size, parameters, multiply-adds."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.fx
from torch.utils.flop_counter import FlopCounterMode

from robnet_zoo.genotype.layers import (
    DENOISE_FORMS,
    MEDIAN_OF_NINE,
    Block,
    Conv,
    FactorizedConv,
    Median,
    NonLocal,
    Norm,
    Pool,
    Relu,
    denoising,
    factorized_reduction,
    multiply_adds,
    output_size,
    parameters,
    pointwise,
)
from robnet_zoo.nn.layers import build

CHANNELS = 4
BLOCKS: dict[str, Block] = {
    "relu": (Relu(),),
    "norm": (Norm(CHANNELS, affine=True),),
    "norm that learns nothing": (Norm(CHANNELS, affine=False),),
    "conv": (Conv(CHANNELS, 6, (3, 5), (2, 1)),),
    "dilated depthwise conv": (Conv(CHANNELS, CHANNELS, (3, 3), dilation=2, groups=CHANNELS),),
    "factorized conv": (FactorizedConv(CHANNELS, 6),),
    "max pool": (Pool("max", 3, 2),),
    "average pool": (Pool("avg", 3, 1),),
    "dot product": (NonLocal(CHANNELS, "dot_product"),),
    "embedded gaussian": (NonLocal(CHANNELS, "embedded_gaussian"),),
    "median": (Median(),),
    "pointwise": pointwise(CHANNELS, 6, affine=True),
    "factorized reduction": factorized_reduction(CHANNELS, 6, affine=False),
    **{f"denoising by {form}": denoising(CHANNELS, form) for form in DENOISE_FORMS},
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
def test_size_and_counts_of_a_block_equal_those_of_its_module(block: Block) -> None:
    size = (8, 12)
    module = build(block).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = module(torch.rand(1, CHANNELS, *size))
    assert tuple(result.shape[2:]) == output_size(block, size)
    assert sum(weights.numel() for weights in module.parameters()) == parameters(block)
    assert counter.get_total_flops() == 2 * multiply_adds(block, size)


def test_exchanges_put_the_median_of_any_nine_values_into_their_middle() -> None:
    for bits in itertools.product((0, 1), repeat=9):  # enough, by the 0-1 principle of comparison networks
        values = list(bits)
        for first, second in MEDIAN_OF_NINE:
            values[first], values[second] = sorted((values[first], values[second]))
        assert values[4] == sorted(bits)[4]
