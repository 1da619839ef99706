"""The steps of a folded block compute what the block computes in eval mode."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.genotype.layers import Block, Conv, FactorizedConv, Norm, Pool, Relu
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.nn.forms.folding import Affine, Fold, Halves, Step, fold, folded, scale_and_shift
from robnet_zoo.nn.layers import build

BLOCKS: dict[str, Block] = {
    **{f"{name} at stride 2": operation.layers(4, 2, True) for name, operation in OPERATIONS.items()},
    "a norm that follows a pooling": (Pool("max", 3, 2), Norm(4, True)),
    "a norm that comes first": (Norm(4, True), Relu(), Conv(4, 4), Norm(4, False)),
    "two norms in a row": (Conv(4, 4), Norm(4, True), Norm(4, False)),
    "a factorized convolution without a norm": (FactorizedConv(4, 4), Relu()),
}


def trained(block: Block) -> nn.Module:
    torch.manual_seed(0)
    module = build(block).double().eval()
    for norm in module:
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.2, 2.0)
            if norm.affine:
                nn.init.uniform_(norm.weight, -1.5, 1.5)
                nn.init.uniform_(norm.bias, -0.5, 0.5)
    return module


def computed(step: Step, x: Tensor) -> Tensor:
    if isinstance(step, Fold):
        conv = step.conv
        return F.conv2d(x, step.weight(), step.bias(), conv.stride, conv.padding, conv.dilation, conv.groups)
    if isinstance(step, Halves):
        return torch.cat([computed(step.even, x), computed(step.odd, x[:, :, 1:, 1:])], dim=1)
    return step(x)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_the_steps_of_a_block_compute_the_block(block: Block) -> None:
    module = trained(block)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = module(x)
    with torch.no_grad():
        for step in fold(block, module):
            x = computed(step, x)
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


def test_a_norm_behind_a_convolution_is_not_a_separate_step() -> None:
    block = (Norm(4, True), Relu(), Conv(4, 4), Norm(4, False), Norm(4, True))
    assert list(folded(block)) == [(0, 0), (1, None), (2, 3), (4, 4)]
    kinds = [type(step) for step in fold(block, trained(block))]
    assert kinds == [Affine, nn.ReLU, Fold, Affine]


def test_a_fold_of_some_input_channels_has_their_part_of_the_weight() -> None:
    block = (Conv(4, 6), Norm(6, True))
    (step,) = fold(block, trained(block))
    assert isinstance(step, Fold)
    assert torch.equal(step.weight(slice(1, 3)), step.weight()[:, 1:3])


@pytest.mark.parametrize("affine", [False, True])
def test_scale_and_shift_are_the_norm_in_eval_mode(affine: bool) -> None:
    (norm,) = trained((Norm(4, affine),))
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    scale, shift = scale_and_shift(norm)
    torch.testing.assert_close(x * scale[:, None, None] + shift[:, None, None], norm(x), rtol=1e-12, atol=1e-12)
