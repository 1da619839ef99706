"""DeepFool on linear models, whose boundaries are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import DeepFool, run
from robnet_zoo.attacks.continuous_batching import Batcher
from tests.attacks.classifiers import Counting, Opposites, greys, small

OVERSHOOT = 0.02


@pytest.fixture
def linear() -> nn.Linear:
    """Return a linear layer of six classes, each of which is the answer for some of the greys."""
    torch.manual_seed(0)
    layer = nn.Linear(48, 6)
    layer.bias.data -= layer(greys(64).flatten(1)).detach().mean(0)
    return layer


def nearest(linear: nn.Linear, images: Tensor, labels: Tensor, norm: str, target: int | None = None) -> Tensor:
    """Return the distances, (N,), to the nearest boundary of a linear classifier, or to that of a target."""
    logits = linear(images.flatten(1)).detach()
    gaps = logits.gather(1, labels[:, None]) - logits  # (N, K)
    slopes = linear.weight.detach() - linear.weight.detach()[labels][:, None]  # (N, K, D)
    dual = slopes.abs().sum(2) if norm == "linf" else slopes.norm(dim=2)
    distances = torch.where(dual > 0, gaps / dual.clamp(min=1e-12), torch.inf)
    return distances.amin(1) if target is None else distances[:, target]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_the_nearest_of_many_boundaries_is_found_in_one_step(linear, norm):
    model, images = nn.Sequential(nn.Flatten(), linear), greys(16)
    labels = model(images).argmax(1)
    attack = DeepFool(mode="minimal", norm=norm, overshoot=OVERSHOOT)
    outcomes = run(attack, model, images, labels, eps=10.0, slots=8)
    measured = torch.tensor([outcome.distance for outcome in outcomes])
    least = nearest(linear, images, labels, norm)
    assert len(labels.unique()) > 1
    assert all(outcome.fooled and outcome.step == 2 for outcome in outcomes)  # one to go there, one to see it
    assert bool((measured >= least).all())
    torch.testing.assert_close(measured, (1 + OVERSHOOT) * least, rtol=1e-2, atol=3e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_a_target_the_distance_to_its_boundary_is_found(linear, norm):
    linear.weight.data[2] *= 1.5
    model, images = nn.Sequential(nn.Flatten(), linear), greys(16)
    labels = model(images).argmax(1)
    images, labels = images[labels != 2], labels[labels != 2]
    attack = DeepFool(mode="minimal", norm=norm, overshoot=OVERSHOOT)
    outcomes = run(attack, model, images, labels, eps=10.0, targets=torch.full_like(labels, 2), slots=8)
    measured = torch.tensor([outcome.distance for outcome in outcomes])
    assert bool((measured >= nearest(linear, images, labels, norm, target=2) - 1e-6).all())
    answers = model(torch.stack([outcome.image for outcome in outcomes])).argmax(1)
    assert bool((answers == 2).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_projected_form_fools_where_the_boundary_lies_in_the_ball_and_gives_an_image_of_the_ball(norm):
    model, images = Opposites(), greys(20)
    distances = model.distances(images, norm)
    eps = float(distances.median()) * 1.07
    outcomes = run(DeepFool(norm=norm), model, images, model.labels(images), eps=eps, slots=8)
    for outcome, distance in zip(outcomes, distances.tolist(), strict=True):
        assert outcome.fooled == (distance < eps)
        assert outcome.distance == pytest.approx(min(distance * (1 + OVERSHOOT), eps), rel=0.01, abs=1e-4)


def test_the_minimal_form_tells_the_distance_of_what_lies_outside_the_ball():
    model, images = Opposites(), greys(20)
    distances = model.distances(images, "l2")
    eps = float(distances.median()) * 1.07
    outcomes = run(DeepFool(norm="l2", mode="minimal"), model, images, model.labels(images), eps=eps, slots=8)
    answers = model(torch.stack([outcome.image for outcome in outcomes])).argmax(1)
    assert bool((answers != model.labels(images)).all())
    assert [outcome.fooled for outcome in outcomes] == (distances < eps).tolist()
    assert all((outcome.step is None) == (not outcome.fooled) for outcome in outcomes)


def test_a_step_costs_one_forward_and_one_backward_for_the_label_and_each_candidate(monkeypatch):
    monkeypatch.setattr(Batcher, "_shrink", lambda *_: None)
    network, images = small(), torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = network(images).argmax(1)
    for candidates, backwards in ((1, 2), (3, 4), (9, 5)):  # of five classes, four are wrong
        counting = Counting(network)
        outcomes = run(DeepFool(candidates=candidates), counting, images, labels, eps=0.03, slots=5, judge=network)
        assert counting.calls == max(outcome.forwards for outcome in outcomes)
        assert all(outcome.backwards == backwards * outcome.forwards for outcome in outcomes)
        assert counting.backward_calls == backwards * counting.calls


def test_images_end_at_steps_of_their_own():
    network, images = small(), torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    outcomes = run(DeepFool(overshoot=0.0), network, images, network(images).argmax(1), eps=0.05, slots=20)
    assert len({outcome.forwards for outcome in outcomes}) > 1
    assert max(outcome.forwards for outcome in outcomes) < 50


def test_a_model_without_a_gradient_is_left_alone():
    images = torch.full((2, 1, 2, 2), 0.5)
    attack = DeepFool(steps=3, mode="minimal")
    outcomes = run(
        attack,
        lambda x: torch.tensor([[1.0, 0.0]]) + x.flatten(1).sum(1, keepdim=True) * 0,
        images,
        torch.zeros(2, dtype=torch.long),
        eps=0.1,
        slots=2,
    )
    assert all(not outcome.fooled and outcome.distance == 0 for outcome in outcomes)
