"""Attacks beside proofs: none beats a certificate, and those that search find what is known to exist."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.attacks import run
from robnet_zoo.attacks.ball import length
from tests.attacks.classifiers import ATTACKS

EPS = 0.06
GRID = 11  # points along each of the three sides of a ball
# From a single start, an untargeted margin may lead to the class that is second there, which need not be within reach.
ONE_CLASS = {"pgd_margin", "pgd_dlr", "apgd_margin", "apgd_dlr"}
ITERATED = [name for name, attack in ATTACKS.items() if attack.ball == "linf" and attack.max_steps > 1 and attack.early]
SEARCHING = [*(name for name in ITERATED if name not in ONE_CLASS), "deepfool_minimal"]


class Case(NamedTuple):
    """A trained network, images of one pixel, (N, 3, 1, 1), that it gets right, and their classes, (N,)."""

    model: nn.Sequential
    images: Tensor
    labels: Tensor


def certified(model: nn.Sequential, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Return which images interval bounds (Gowal et al., 2018) prove to stay right in the l-infinity ball, (N,).

    The last layer is joined with the difference of each class from the label, which makes the bounds tighter.
    """
    return (worst_margins(model, images, labels, eps).amax(1) < 0).detach()


def worst_margins(model: nn.Sequential, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Return an upper bound of each other logit minus the label's over the ball, (N, K), -infinity at the label."""
    _, first, _, last = model
    lower, upper = (images - eps).clamp(0, 1).flatten(1), (images + eps).clamp(0, 1).flatten(1)
    centre, radius = F.linear((lower + upper) / 2, first.weight, first.bias), (upper - lower) / 2 @ first.weight.abs().T
    lower, upper = (centre - radius).relu(), (centre + radius).relu()
    weight = last.weight[None] - last.weight[labels][:, None]  # (N, K, hidden)
    bias = last.bias[None] - last.bias[labels][:, None]
    middle, half = ((lower + upper) / 2)[:, :, None], ((upper - lower) / 2)[:, :, None]
    bounds = (weight @ middle + weight.abs() @ half)[:, :, 0] + bias
    return bounds.scatter(1, labels[:, None], -torch.inf)


@pytest.fixture(scope="module")
def case() -> Case:
    """Train a network by its interval bounds to tell which colour a pixel has most of, or that it is dark."""
    torch.manual_seed(0)
    pixels = torch.rand(600, 3, 1, 1)
    labels = torch.where(pixels.amax(1)[:, 0, 0] < 0.5, 3, pixels[:, :, 0, 0].argmax(1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        bounds = worst_margins(model, pixels, labels, 0.02 * step / 150)
        loss = F.cross_entropy(bounds.scatter(1, labels[:, None], 0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (model(pixels).argmax(1) == labels).nonzero()[:80, 0]
    return Case(model.eval().requires_grad_(False), pixels[right], labels[right])


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_beats_a_certificate(name, case):
    # The ball in l2 lies in that of l-infinity, so that one certificate holds for both.
    proved = certified(*case, EPS).nonzero()[:40, 0]
    assert len(proved) == 40
    outcomes = run(ATTACKS[name], case.model, case.images[proved], case.labels[proved], eps=EPS, slots=40)
    assert not any(outcome.fooled for outcome in outcomes)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.minimal])
def test_no_distance_is_shorter_than_what_is_proved(name, case):
    attack, radii = ATTACKS[name], torch.linspace(0.01, 0.3, 30)
    proofs = torch.stack([certified(*case, float(eps)) for eps in radii])  # (30, N), true up to some radius
    proved = torch.cat([torch.zeros(1), radii])[proofs.cumprod(0).sum(0)][:60]
    assert proved.max() > 0.1
    outcomes = run(attack, case.model, case.images[:60], case.labels[:60], eps=2.0, slots=60)
    reached = [
        (outcome.distance, float(least)) for outcome, least in zip(outcomes, proved, strict=True) if outcome.fooled
    ]
    assert len(reached) > 50
    assert all(distance >= least - 1e-6 for distance, least in reached)


def test_a_certificate_is_refuted_by_no_point_of_a_grid(case, known):
    assert not bool(known[certified(*case, EPS)].any())


@pytest.fixture(scope="module")
def known(case) -> Tensor:
    """Return which images a point of a grid over their balls changes the class of, clearly: (N,)."""
    side = torch.linspace(-EPS, EPS, GRID)
    shifts = torch.cartesian_prod(side, side, side)[:, :, None, None]  # (GRID ** 3, 3, 1, 1)
    outcomes = []
    for image, label in zip(case.images, case.labels, strict=True):
        logits = case.model((image + shifts).clamp(0, 1))
        others = logits.scatter(1, label.expand(len(logits))[:, None], -torch.inf).amax(1)
        outcomes.append(bool((others - logits[:, label]).max() > 0.05))
    return torch.tensor(outcomes)


@pytest.mark.parametrize("name", SEARCHING)
def test_every_search_finds_what_a_grid_does(name, case, known):
    exists = known.nonzero()[:, 0]
    assert len(exists) > 5
    outcomes = run(ATTACKS[name], case.model, case.images[exists], case.labels[exists], eps=EPS, slots=40)
    assert all(outcome.fooled for outcome in outcomes)
    adversarial = torch.stack([outcome.image for outcome in outcomes])
    assert bool((length(adversarial - case.images[exists], "linf") <= EPS + 1e-6).all())
