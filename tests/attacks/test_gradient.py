"""FGSM, BIM, PGD and MI-FGSM on models whose optimum is known, and the plain functions that training uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import Bim, Fgsm, MiFgsm, Pgd, fgsm, n_fgsm, pgd, run
from robnet_zoo.core.units import in_image_units
from tests.attacks.classifiers import Opposites, greys, small

EPS = 8 / 255


@pytest.fixture
def linear() -> nn.Module:
    """Two classes, logits linear in the image: the worst image of the ball is known in closed form."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def worst(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """argmax of the cross-entropy of a two-class linear model over the ball and the box."""
    weight = model[1].weight
    direction = (weight[1 - labels] - weight[labels]).sign().reshape(images.shape)
    return (images + EPS * direction).clamp(0, 1).detach()


# The functions


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("seed", [None, 3])
def test_pgd_reaches_the_optimum_of_a_linear_model(linear, images, steps, seed):
    labels = torch.arange(16) % 2
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    found = pgd(linear, images, labels, eps=EPS, step=2 * EPS, steps=steps, generator=generator)
    torch.testing.assert_close(found, worst(linear, images, labels), rtol=0, atol=1e-6)


def test_fgsm_reaches_the_optimum_of_a_linear_model(linear, images):
    labels = torch.arange(16) % 2
    torch.testing.assert_close(fgsm(linear, images, labels, eps=EPS), worst(linear, images, labels), rtol=0, atol=1e-6)


def test_n_fgsm_steps_from_noise_of_twice_eps_and_stays_in_the_box_alone(linear):
    images = torch.full((64, 3, 4, 4), 0.5)
    labels = torch.arange(64) % 2
    found = n_fgsm(linear, images, labels, eps=EPS, step=EPS, generator=torch.Generator().manual_seed(0))
    noise = found - worst(linear, images, labels)  # the gradient's sign is the same everywhere
    assert noise.abs().max() <= 2 * EPS + 1e-6
    assert noise.abs().max() > 1.9 * EPS
    white = torch.ones(2, 3, 4, 4)
    found = n_fgsm(linear, white, labels[:2], eps=EPS, step=EPS, generator=torch.Generator().manual_seed(0))
    assert found.max() <= 1


def test_pgd_stays_in_the_ball_and_in_the_box():
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).round()  # at the box's corners
    generator = torch.Generator().manual_seed(0)
    found = pgd(small(), images, torch.zeros(8, dtype=torch.long), eps=EPS, step=EPS, steps=3, generator=generator)
    assert (found - images).abs().max() <= EPS + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert not torch.equal(found, images)


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
    labels, generator = torch.zeros(16, dtype=torch.long), torch.Generator()
    for attacked in (
        lambda: fgsm(linear, images, labels, eps=EPS),
        lambda: n_fgsm(linear, images, labels, eps=EPS, step=EPS, generator=generator),
        lambda: pgd(linear, images, labels, eps=EPS, step=EPS, steps=1, generator=None),
    ):
        with pytest.raises(ValueError, match=r"expected images in \[0, 1\]"):
            attacked()


def test_a_model_is_left_as_it_was():
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    pgd(model, images, labels, eps=EPS, step=EPS, steps=2, generator=None)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# The attacks


def test_one_step_of_pgd_without_its_start_is_the_function_of_training():
    model, images = small(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)
    by_function = pgd(model, images, labels, eps=EPS, step=2 / 255, steps=5, generator=None)
    outcomes = run(Bim(steps=5), model, images, labels, eps=EPS, slots=6, early=False)
    torch.testing.assert_close(torch.stack([outcome.image for outcome in outcomes]), by_function, rtol=0, atol=1e-7)
    (outcome,) = run(Fgsm(), model, images[:1], labels[:1], eps=EPS, slots=1, early=False)
    torch.testing.assert_close(outcome.image, fgsm(model, images[:1], labels[:1], eps=EPS)[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bim_takes_exactly_the_steps_that_the_boundary_is_away(norm):
    model, images = Opposites(), greys(20)
    step = {"linf": "1/255", "l2": "6/255"}[norm]
    steps_needed = model.distances(images, norm) / in_image_units(step)
    clear = (steps_needed - steps_needed.round()).abs() > 0.02
    images, needed = images[clear], steps_needed[clear].ceil().int().tolist()
    attack = Bim(steps=max(needed), step=step, norm=norm)
    outcomes = run(attack, model, images, model.labels(images), eps=1.0, slots=7)
    assert [outcome.step for outcome in outcomes] == needed
    assert len(set(needed)) > 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_starts_anywhere_in_the_ball(norm):
    """With steps of no length, the images that come out are the starts."""
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
    found = [
        run(Pgd(steps=1, step="0", restarts=tries), model, images, labels, eps=1e-3, slots=1)[0].image
        for tries in (1, 2, 3)
    ]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_diversity_of_zero_is_mi_fgsm_itself_and_more_is_not():
    model, images = small(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)

    def attacked(diversity: float) -> Tensor:
        attack = MiFgsm(steps=4, diversity=diversity)
        outcomes = run(attack, model, images, labels, eps=EPS, slots=4, early=False)
        return torch.stack([outcome.image for outcome in outcomes])

    assert torch.equal(attacked(0.0), attacked(0.0))
    assert not torch.equal(attacked(0.0), attacked(1.0))


def test_a_diverse_query_shows_the_image_smaller_between_black_borders():
    """What a model of white images sees: white within, black at the border, 90 to 100 % of the side."""
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    white = torch.ones(16, 1, 40, 40)
    attack = MiFgsm(steps=1, step="0", diversity=1.0)
    run(attack, model, white, torch.zeros(16, dtype=torch.long), eps=0.1, slots=16)
    diverse = next(x for x in seen if x.min() < 0.5)
    sides = diverse.flatten(1).sum(1).sqrt() / 40
    assert sides.min() > 0.89
    assert sides.max() <= 1
    assert sides.max() - sides.min() > 0.04
    centres = (diverse * torch.arange(40)).flatten(1).sum(1) / diverse.flatten(1).sum(1)
    assert centres.max() - centres.min() > 1  # pixels: at random places


def test_an_l2_step_follows_a_gradient_whose_square_is_zero_in_float32():
    """As where the cross-entropy is saturated: a gradient of 1e-30 is a direction like any other."""
    images = torch.full((1, 1, 2, 2), 0.5)

    def flat(x: Tensor) -> Tensor:
        s = x.flatten(1) @ torch.tensor([3e-30, 4e-30, 0, 0])
        return torch.stack([s * 0, s - 1], 1)

    attack = Bim(steps=1, step="25/255", norm="l2", loss="margin")
    (outcome,) = run(attack, flat, images, torch.zeros(1, dtype=torch.long), eps=0.5, slots=1)
    moved = (outcome.image - 0.5).flatten() * 255 / 25
    torch.testing.assert_close(moved, torch.tensor([0.6, 0.8, 0, 0]), rtol=0, atol=1e-5)


def test_a_row_whose_gradient_is_no_number_stays_where_it_is_and_the_others_move():
    images = torch.full((2, 1, 2, 2), 0.5)
    images[1] = 0.25

    def broken(x: Tensor) -> Tensor:
        s = x.flatten(1).sum(1)
        s = s * torch.where(x[:, 0, 0, 0] > 0.4, torch.nan, 1.0)
        return torch.stack([s * 0, s - 100], 1)

    for norm in ("linf", "l2"):
        for kind in (Bim, MiFgsm):
            attack = kind(steps=2, norm=norm, loss="margin")
            labels = torch.zeros(2, dtype=torch.long)
            outcomes = run(attack, broken, images, labels, eps=0.1, slots=2)
            assert torch.equal(outcomes[0].image, images[0])
            assert bool((outcomes[1].image > 0.25).all())


def test_what_an_attack_is_called_names_its_steps_and_its_loss():
    assert Pgd(steps=100).title == "pgd100"
    assert Pgd(steps=20, loss="margin").title == "pgd20_margin"
    assert Bim(steps=10).title == "bim10"
    assert MiFgsm(diversity=0.5).title == "mi_di_fgsm"
    assert Fgsm(name="one_step").title == "one_step"


@pytest.mark.parametrize("field", [{"steps": 0}, {"restarts": 0}, {"step": "-1/255"}, {"norm": "l1"}, {"name": "A b"}])
def test_parameters_that_make_no_sense_are_refused(field):
    with pytest.raises(ValueError, match=f"^{next(iter(field))}: expected"):
        Pgd.parse(field)
