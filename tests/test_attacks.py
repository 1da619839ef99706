"""FGSM and PGD on models whose optimum is known."""

import pytest
import torch
from torch import nn

from robnet_zoo.attacks import fgsm, n_fgsm, pgd
from robnet_zoo.compiler import compile
from robnet_zoo.zoo import load_spec

EPS = 8 / 255


@pytest.fixture
def linear() -> nn.Module:
    """Two classes, logits linear in the image: the worst image of the ball is known in closed form."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def worst(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """argmax of the cross-entropy of a two-class linear model over the ball and the box."""
    weight = model[1].weight
    direction = (weight[1 - labels] - weight[labels]).sign().reshape(images.shape)
    return (images + EPS * direction).clamp(0, 1).detach()


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
    model = compile(load_spec("robnet_micro"))
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).round()  # at the box's corners
    generator = torch.Generator().manual_seed(0)
    found = pgd(model, images, torch.zeros(8, dtype=torch.long), eps=EPS, step=EPS, steps=3, generator=generator)
    assert (found - images).abs().max() <= EPS + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert not torch.equal(found, images)


def test_the_same_seed_gives_the_same_images_and_another_seed_others(linear, images):
    labels = torch.zeros(16, dtype=torch.long)

    def attacked(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return pgd(linear, images, labels, eps=EPS, step=EPS / 10, steps=2, generator=generator)

    assert torch.equal(attacked(0), attacked(0))
    assert not torch.equal(attacked(0), attacked(1))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_images_outside_the_box_are_refused(linear, images, value):
    images[3, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"expected images in \[0, 1\]"):
        pgd(linear, images, torch.zeros(16, dtype=torch.long), eps=EPS, step=EPS, steps=1, generator=None)


def test_a_model_is_left_as_it_was(images):
    model = compile(load_spec("robnet_micro")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.rand(4, 3, 32, 32)
    pgd(model.eval(), images, torch.zeros(4, dtype=torch.long), eps=EPS, step=EPS, steps=2, generator=None)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_image_that_is_fooled_stays_fooled():
    """A model whose logits swing with the image: going on would undo the success."""

    class Swing(nn.Module):
        def forward(self, x):
            first = x.mean((1, 2, 3)) * 40
            return torch.stack([torch.cos(first), torch.zeros_like(first)], dim=1)

    images = torch.full((1, 3, 4, 4), 0.5) + torch.linspace(-0.1, 0.1, 32)[:, None, None, None]
    labels = (Swing()(images).argmax(1)).long()
    options = {"eps": 0.3, "step": 0.05, "steps": 12, "generator": None}
    free = Swing()(pgd(Swing(), images, labels, **options)).argmax(1) != labels
    kept = Swing()(pgd(Swing(), images, labels, until_fooled=True, **options)).argmax(1) != labels
    assert bool((kept | ~free).all())
    assert kept.sum() >= free.sum()
    assert kept.all()
