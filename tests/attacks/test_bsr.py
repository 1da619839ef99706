"""Block shuffle and rotation: where pixels come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, rotate

from robnet_zoo.attacks import Bsr


def shuffled(attack: Bsr, images: Tensor, *, seed: int = 0) -> Tensor:
    draws = [np.random.default_rng(seed + number) for number in range(len(images))]
    return attack.view(images, {}, 0, draws)


@pytest.mark.parametrize("blocks", [1, 2, 3, 20])
def test_without_an_angle_every_pixel_is_still_there(blocks):
    images = torch.rand(6, 3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = shuffled(Bsr(blocks=blocks, angle=0.0), images)
    torch.testing.assert_close(views.flatten(2).sort().values, images.flatten(2).sort().values)
    assert torch.allclose(views, images) == (blocks == 1)


def test_strips_are_cut_across_at_places_of_their_own():
    # The pixels of this image are the numbers of their rows.
    rows = torch.arange(12.0)[None, None, :, None].expand(8, 1, 12, 12).contiguous()
    whole = [torch.allclose(view, view[..., :1], atol=1e-4) for view in shuffled(Bsr(blocks=3, angle=0.0), rows)]
    assert any(whole)  # strips above each other
    assert not all(whole)  # strips beside each other, whose blocks change places up and down


def test_a_single_strip_turns_as_torchvision_turns_it():
    image = torch.rand(1, 1, 15, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    view = shuffled(Bsr(blocks=1, angle=40.0), image)
    draw = np.random.default_rng(0)
    across = draw.random() >= 0.5
    draw.uniform(1, 2, 1)
    draw.permutation(1)
    angle = math.copysign(draw.uniform(-40, 40), -1 if across else 1)
    candidates = [rotate(image, sign * angle, interpolation=InterpolationMode.BILINEAR) for sign in (1, -1)]
    middle = (..., slice(4, 11), slice(4, 11))  # of whose corners all come from within
    nearest = min(float((view - turned)[middle].abs().max()) for turned in candidates)
    assert nearest < 1e-5


def test_what_turns_in_from_outside_is_black():
    views = shuffled(Bsr(blocks=2, angle=45.0), torch.ones(4, 3, 32, 32))
    assert views.min() == 0
    assert 0.02 < (views < 0.01).float().mean() < 0.4
