"""FGSM on models whose optimum is known, and the plain functions of one step."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.attacks import Fgsm, fgsm, n_fgsm, run
from robnet_zoo.errors import AttackError
from tests.attacks.classifiers import EPS, small, worst


def test_fgsm_reaches_the_optimum_of_a_linear_model(linear, images):
    labels = torch.arange(16) % 2
    torch.testing.assert_close(fgsm(linear, images, labels, eps=EPS), worst(linear, images, labels), rtol=0, atol=1e-6)


def test_n_fgsm_steps_from_noise_of_twice_eps_and_stays_in_the_box_alone(linear):
    images = torch.full((64, 3, 4, 4), 0.5)
    labels = torch.arange(64) % 2
    adversarial = n_fgsm(linear, images, labels, eps=EPS, step=EPS, generator=torch.Generator().manual_seed(0))
    noise = adversarial - worst(linear, images, labels)  # the gradient's sign is the same everywhere
    assert noise.abs().max() <= 2 * EPS + 1e-6
    assert noise.abs().max() > 1.9 * EPS
    white = torch.ones(2, 3, 4, 4)
    adversarial = n_fgsm(linear, white, labels[:2], eps=EPS, step=EPS, generator=torch.Generator().manual_seed(0))
    assert adversarial.max() <= 1


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_images_outside_the_box_are_refused(linear, images, value):
    images[3, 0, 0, 0] = value
    labels, generator = torch.zeros(16, dtype=torch.long), torch.Generator()
    for attacked in (
        lambda: fgsm(linear, images, labels, eps=EPS),
        lambda: n_fgsm(linear, images, labels, eps=EPS, step=EPS, generator=generator),
    ):
        with pytest.raises(AttackError, match=r"expected images in \[0, 1\]"):
            attacked()


def test_fgsm_is_the_function_of_training():
    model, images = small(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)
    (outcome,) = run(Fgsm(), model, images, labels, eps=EPS, slots=1, early=False)
    torch.testing.assert_close(outcome.image, fgsm(model, images, labels, eps=EPS)[0], rtol=0, atol=1e-7)
