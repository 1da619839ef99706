"""The modules of layers compute their formulas, written out."""

import itertools
from itertools import product

import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.genotype.layers import DENOISE_FORMS, DenoiseForm, denoising
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.nn.layers import Denoising, EmbeddedGaussian2d, build


def maps(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def filtered(form: DenoiseForm, x: Tensor) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = build(denoising(x.shape[1], form)[:1])[0].double()
    if isinstance(layer, EmbeddedGaussian2d):
        torch.nn.init.normal_(layer.theta.weight)
        torch.nn.init.normal_(layer.phi.weight)
    return layer, layer(x)


@pytest.mark.parametrize("size", [(6, 2, 2), (2, 3, 4)], ids=["fewer pixels than channels", "more"])
def test_dot_product_weighs_every_pixel_by_its_product_with_this_one(size: tuple[int, int, int]) -> None:
    x = maps(*size)
    actual = filtered("dot_product", x)[1]
    pixels = list(itertools.product(range(size[1]), range(size[2])))
    for at in pixels:
        weights = [(x[:, :, at[0], at[1]] * x[:, :, row, column]).sum(1) for row, column in pixels]
        terms = [weight[:, None] * x[:, :, row, column] for weight, (row, column) in zip(weights, pixels, strict=True)]
        expected = torch.stack(terms).sum(0) / len(pixels)
        torch.testing.assert_close(actual[:, :, at[0], at[1]], expected, rtol=1e-12, atol=1e-12)


def test_embedded_gaussian_weighs_pixels_by_the_softmax_of_their_embeddings_product() -> None:
    x = maps(5, 3, 4)
    layer, actual = filtered("embedded_gaussian", x)
    assert isinstance(layer, EmbeddedGaussian2d)
    theta, phi = (F.conv2d(x, conv.weight) for conv in (layer.theta, layer.phi))
    assert theta.shape[1] == 2  # half of 5, rounded down
    likeness = torch.einsum("nchw,ncij->nhwij", theta, phi) / 2**0.5
    weights = likeness.flatten(3).softmax(3).view_as(likeness)
    assert weights.amax() > 2 * weights.amin()
    expected = torch.einsum("nhwij,ncij->nchw", weights, x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_mean_is_over_the_pixels_that_are_there() -> None:
    x = maps(2, 3, 4)
    actual = filtered("mean", x)[1]
    torch.testing.assert_close(actual[:, :, 1, 1], x[:, :, 0:3, 0:3].mean((2, 3)))
    torch.testing.assert_close(actual[:, :, 0, 0], x[:, :, 0:2, 0:2].mean((2, 3)))


@pytest.mark.parametrize("size", [(2, 5, 4), (1, 1, 3), (1, 1, 1)])
def test_median_is_that_of_the_pixels_with_the_edge_repeated(size: tuple[int, int, int]) -> None:
    x = maps(*size)
    windows = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    assert torch.equal(filtered("median", x)[1], windows.median(dim=4).values)


@pytest.mark.parametrize("form", DENOISE_FORMS)
def test_untrained_block_passes_its_input_on_and_learns(form: DenoiseForm) -> None:
    block, x = Denoising(denoising(4, form)).double(), maps(4, 6, 6)
    assert torch.equal(block(x), x)
    block[2].weight.data.fill_(1.0)
    output = block(x)
    assert (output - x).std() > 0.5  # normalised
    (output * maps(4, 6, 6)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in block.parameters())


def weights_of(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.ndim == 4]


def normed(x: Tensor) -> Tensor:
    return x / (1 + 1e-5) ** 0.5  # a fresh batch norm in eval mode


def separable(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    pad, groups = w[0].shape[2] // 2, x.shape[1]
    x = F.conv2d(F.conv2d(x.relu(), w[0], stride=stride, padding=pad, groups=groups), w[1])
    return normed(F.conv2d(F.conv2d(normed(x).relu(), w[2], padding=pad, groups=groups), w[3]))


def dilated(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    pad = w[0].shape[2] - 1
    depthwise = F.conv2d(x.relu(), w[0], stride=stride, padding=pad, dilation=2, groups=x.shape[1])
    return normed(F.conv2d(depthwise, w[1]))


def row_and_column(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    row = F.conv2d(x.relu(), w[0], stride=(1, stride), padding=(0, 3))
    return normed(F.conv2d(row, w[1], stride=(stride, 1), padding=(3, 0)))


def largest(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    return F.max_pool2d(x, 3, stride, 1)


def mean(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    sums = [F.avg_pool2d(values, 3, stride, 1, divisor_override=1) for values in (x, torch.ones_like(x))]
    return sums[0] / sums[1]  # the padding does not count


def identity(x: Tensor, w: list[Tensor], stride: int) -> Tensor:
    if stride == 1:
        return x
    halves = [F.conv2d(x.relu()[:, :, i::2, i::2], w[i]) for i in (0, 1)]
    return normed(torch.cat(halves, dim=1))


# Operations written out in torch's functions, of images x and the weights w of their convolutions, in order.
PLAIN = {
    "identity": identity,
    "sep_conv_3x3": separable,
    "sep_conv_5x5": separable,
    "sep_conv_7x7": separable,
    "dil_conv_3x3": dilated,
    "dil_conv_5x5": dilated,
    "conv_7x1_1x7": row_and_column,
    "max_pool_3x3": largest,
    "avg_pool_3x3": mean,
}


@pytest.mark.parametrize(("name", "stride"), list(product(PLAIN, (1, 2))))
def test_operation_computes_what_plain_torch_does(name: str, stride: int) -> None:
    torch.manual_seed(0)
    operation = build(OPERATIONS[name].layers(6, stride, False)).double().eval()
    x = torch.randn(2, 6, 8, 10, dtype=torch.float64)
    expected = PLAIN[name](x, weights_of(operation), stride)
    assert expected.shape == (2, 6, 8 // stride, 10 // stride)
    torch.testing.assert_close(operation(x), expected, rtol=1e-12, atol=1e-12)
