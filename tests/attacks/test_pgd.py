"""PGD on models whose optimum is known, and the plain function that training uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robnet_zoo.attacks import Bim, Pgd, pgd, run
from robnet_zoo.errors import AttackError
from tests.attacks.classifiers import EPS, Opposites, greys, small, worst


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("seed", [None, 3])
def test_pgd_reaches_the_optimum_of_a_linear_model(linear, images, steps, seed):
    labels = torch.arange(16) % 2
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    adversarial = pgd(linear, images, labels, eps=EPS, step=2 * EPS, steps=steps, generator=generator)
    torch.testing.assert_close(adversarial, worst(linear, images, labels), rtol=0, atol=1e-6)


def test_pgd_stays_in_the_ball_and_in_the_box():
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).round()  # at the box's corners
    generator = torch.Generator().manual_seed(0)
    adversarial = pgd(
        small(), images, torch.zeros(8, dtype=torch.long), eps=EPS, step=EPS, steps=3, generator=generator
    )
    assert (adversarial - images).abs().max() <= EPS + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert not torch.equal(adversarial, images)


def test_the_same_seed_gives_the_same_images_and_another_seed_others(linear, images):
    labels = torch.zeros(16, dtype=torch.long)

    def attacked(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return pgd(linear, images, labels, eps=EPS, step=EPS / 10, steps=2, generator=generator)

    assert torch.equal(attacked(0), attacked(0))
    assert not torch.equal(attacked(0), attacked(1))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_images_outside_the_box_are_refused(linear, images, value):
    images[3, 0, 0, 0] = value
    labels = torch.zeros(16, dtype=torch.long)
    with pytest.raises(AttackError, match=r"expected images in \[0, 1\]"):
        pgd(linear, images, labels, eps=EPS, step=EPS, steps=1, generator=None)


def test_a_model_is_left_as_it_was():
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    pgd(model, images, labels, eps=EPS, step=EPS, steps=2, generator=None)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pgd_without_its_start_is_the_function_of_training():
    model, images = small(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)
    by_function = pgd(model, images, labels, eps=EPS, step=2 / 255, steps=5, generator=None)
    outcomes = run(Bim(steps=5), model, images, labels, eps=EPS, slots=6, early=False)
    torch.testing.assert_close(torch.stack([outcome.image for outcome in outcomes]), by_function, rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_starts_anywhere_in_the_ball(norm):
    # With steps of no length, the images that come out are the starts.
    model, images = Opposites(), torch.full((200, 3, 4, 4), 0.5)
    labels = model.labels(images)
    outcomes = run(Pgd(steps=1, step="0", norm=norm), model, images, labels, eps=0.1, slots=50, early=False)
    distances = torch.tensor([outcome.distance for outcome in outcomes]) / 0.1
    starts = torch.stack([outcome.image for outcome in outcomes])
    assert distances.max() <= 1 + 1e-5
    if norm == "linf":  # every coordinate is uniform: mean 0, variance 1/3
        assert ((starts - 0.5) / 0.1).mean().abs() < 0.02
        assert (((starts - 0.5) / 0.1).square().mean() - 1 / 3).abs() < 0.01
    else:  # a ball of 48 dimensions: the 48th power of the radius is uniform
        assert (distances.pow(48).mean() - 0.5).abs() < 0.07
        assert (distances.pow(48).square().mean() - 1 / 3).abs() < 0.07


def test_every_restart_starts_elsewhere():
    model, images = Opposites(), greys(1)
    labels = model.labels(images)
    starts = [
        run(Pgd(steps=1, step="0", restarts=tries), model, images, labels, eps=1e-3, slots=1)[0].image
        for tries in (1, 2, 3)
    ]
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])


@pytest.mark.parametrize("field", [{"steps": 0}, {"restarts": 0}, {"step": "-1/255"}, {"norm": "l1"}, {"name": "A b"}])
def test_parameters_that_make_no_sense_are_refused(field):
    with pytest.raises(ValueError, match=f"^{next(iter(field))}: expected"):
        Pgd.parse(field)
