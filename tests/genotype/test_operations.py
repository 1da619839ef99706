"""Every operation of the table keeps the rules that a cell relies on."""

from __future__ import annotations

import pytest

from robnet_zoo.genotype.layers import Conv, Norm, output_size
from robnet_zoo.genotype.operations import OPERATIONS


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_keeps_channels_and_divides_the_size_by_its_stride(name: str, stride: int) -> None:
    block = OPERATIONS[name].layers(6, stride, True)
    assert output_size(block, (8, 12)) == (8 // stride, 12 // stride)
    assert all(layer.channels == 6 for layer in block if isinstance(layer, Norm))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_norms_of_an_operation_learn_only_if_affine(name: str, affine: bool) -> None:
    assert all(layer.affine == affine for layer in OPERATIONS[name].layers(4, 2, affine) if isinstance(layer, Norm))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_counts_as_a_convolution_if_it_has_one_at_stride_1(name: str) -> None:
    layers = OPERATIONS[name].layers(4, 1, False)
    assert OPERATIONS[name].is_conv == any(isinstance(layer, Conv) for layer in layers)
