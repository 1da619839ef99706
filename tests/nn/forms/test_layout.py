"""Activations and their gradients stay in channels-last layout, without copies."""

import torch
from torch import Tensor, nn

from robnet_zoo.nn.forms.layout import Activation, as_image, every_second, is_pointwise, keep_layout, layout_of, pixels


def image(layout: torch.memory_format = torch.channels_last) -> Tensor:
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=layout).requires_grad_()


def test_pixels_and_image_are_views_and_each_others_inverse() -> None:
    x = image().detach()
    rows = pixels(x)
    assert rows.shape == (2 * 4 * 6, 3)
    assert torch.equal(as_image(rows, x), x)
    assert rows.data_ptr() == as_image(rows, x).data_ptr() == x.data_ptr()


def test_every_second_pixel_is_a_slice_whose_gradient_has_the_layout_of_its_input() -> None:
    for layout in (torch.channels_last, torch.contiguous_format):
        for start in (0, 1):
            x = image(layout)
            part = every_second(x, start=start)
            assert torch.equal(part, x[:, :, start::2, start::2])
            assert part.is_contiguous(memory_format=layout)
            (gradient,) = torch.autograd.grad(part.square().sum(), x)
            (expected,) = torch.autograd.grad(x[:, :, start::2, start::2].square().sum(), x)
            assert torch.equal(gradient, expected)
            assert layout_of(gradient) == layout


def test_a_gradient_behind_a_mean_over_pixels_gets_the_layout_of_the_activation() -> None:
    x = image()
    y = keep_layout(x)
    y.retain_grad()
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad(y.mean((2, 3)).sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient, torch.full_like(x, 1 / 24))


def test_an_activation_is_rectified_and_halved_once() -> None:
    value = Activation(image())
    assert value.relu is value.relu
    assert value.halves is value.halves
    assert torch.equal(value.halves[1], value.x.clamp(min=0)[:, :, 1::2, 1::2])


def test_only_a_plain_1x1_convolution_is_pointwise() -> None:
    assert is_pointwise(nn.Conv2d(4, 8, 1))
    assert not is_pointwise(nn.Conv2d(4, 8, 1, stride=2))
    assert not is_pointwise(nn.Conv2d(4, 8, 3, padding=1))
    assert not is_pointwise(nn.Conv2d(4, 8, 1, groups=2))
