"""The ball and the box."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.attacks.ball import length, project, random_start, steepest, within
from robnet_zoo.attacks.random import Key

KEYS = [Key(0, sample, 0) for sample in range(8)]


def test_a_distance_is_within_up_to_the_rounding_of_float32_at_its_size():
    distances, eps = torch.tensor([0.5, 0.5, 100.0, 100.0, torch.nan]), torch.tensor([0.5, 0.49, 100.0, 99.99, 1.0])
    off_by_one = torch.nextafter(distances, torch.full_like(distances, torch.inf))
    for values in (distances, off_by_one):
        assert within(values, eps).tolist() == [True, False, True, False, False]
    assert bool(within(torch.tensor(0.1), 0.1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_inside_stays_and_what_is_outside_comes_to_the_border(norm):
    images = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
    delta = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    delta = delta / length(delta, norm)[:, None, None, None] * torch.tensor([0.1, 0.4])[:, None, None, None]
    projected = project(images + delta, images, 0.2, norm)
    torch.testing.assert_close(projected[0], (images + delta)[0])
    torch.testing.assert_close(length(projected - images, norm), torch.tensor([0.1, 0.2], dtype=torch.float64))


def test_the_l2_projection_is_the_nearest_point_of_the_ball():
    generator = torch.Generator().manual_seed(0)
    images, point = torch.full((1, 1, 3, 3), 0.5), torch.rand(1, 1, 3, 3, generator=generator)
    nearest = project(point, images, 0.3, "l2")
    others = images + 0.3 * steepest(torch.randn(2000, 1, 3, 3, generator=generator), "l2")
    assert length(point - nearest, "l2") <= length(point - others, "l2").min() + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [1e-3, 8 / 255, 3.0])
def test_large_images_come_no_further_than_rounding_out_of_the_ball(norm, eps):
    images = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    adversarial = random_start(images, eps, norm, KEYS)
    adversarial = project(adversarial + eps * steepest(torch.randn_like(images), norm), images, eps, norm)
    assert length(adversarial.double() - images.double(), norm).max() <= eps + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_steepest_has_length_1_or_0():
    gradient = torch.randn(4, 3, 4, 4) * torch.tensor([1e-30, 1.0, 1e30, 0.0])[:, None, None, None]
    for norm in ("linf", "l2"):
        torch.testing.assert_close(length(steepest(gradient, norm), norm), torch.tensor([1.0, 1.0, 1.0, 0.0]))
