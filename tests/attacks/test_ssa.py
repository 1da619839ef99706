"""Spectrum simulation's transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from robnet_zoo.attacks import Ssa
from robnet_zoo.attacks.random import Key, generators, streams
from robnet_zoo.attacks.ssa import cosines


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (1, 3)])
def test_the_spectrum_is_that_of_scipy(shape):
    image = np.random.default_rng(0).random(shape)
    ours = cosines(shape[0]) @ image @ cosines(shape[1]).T
    np.testing.assert_allclose(ours, dctn(image, norm="ortho"), atol=1e-12)


def test_frequencies_are_scaled_by_numbers_around_one():
    images = torch.full((2, 3, 4, 4), 0.25, dtype=torch.float64)
    images[..., 1::2] = 0.75  # two frequencies at least, the mean among them
    keys = [Key(0, 0, 0), Key(0, 1, 0)]

    def viewed(**parameters: float) -> np.ndarray:
        draws = [draw for draw, _ in generators(streams(keys, "ssa"), torch.zeros(2, dtype=torch.long))]
        rows = {"eps": torch.full((2, 1, 1, 1), 0.1, dtype=torch.float64)}
        return Ssa(**parameters).view(images, rows, 0, draws).numpy()

    np.testing.assert_allclose(viewed(rho=0, noise=0), images.numpy(), atol=1e-12)
    before, after = (dctn(image, axes=(2, 3), norm="ortho") for image in (images.numpy(), viewed(rho=0.5, noise=0)))
    factors = after[abs(before) > 1e-9] / before[abs(before) > 1e-9]
    assert 0.5 <= factors.min() < 0.7 < 1.3 < factors.max() <= 1.5
    noise = viewed(rho=0, noise=2.0) - images.numpy()
    assert abs(noise.std() - 0.2) < 0.04
