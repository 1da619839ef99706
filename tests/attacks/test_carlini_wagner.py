"""The l2 attack of Carlini and Wagner."""

from __future__ import annotations

import torch

from robnet_zoo.attacks import CarliniWagner, run
from tests.attacks.classifiers import Opposites, far, greys, small

THOROUGH = CarliniWagner(searches=7, steps=80, learning_rate=0.01, initial_c=0.1)


def test_the_distance_to_the_boundary_of_a_linear_model_is_found():
    model = Opposites()
    images = far(model, 8)
    outcomes = run(THOROUGH, model, images, model.labels(images), eps=10.0, slots=8)
    ratios = torch.tensor([outcome.distance for outcome in outcomes]) / model.distances(images, "l2")
    assert all(outcome.fooled for outcome in outcomes)
    assert ratios.min() >= 1
    assert ratios.median() < 1.02
    assert ratios.max() < 1.1


def test_more_searches_never_find_an_image_that_is_further_away():
    model, images = small(), torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    distances = []
    for searches in (1, 3, 6):
        attack = CarliniWagner(searches=searches, steps=30, learning_rate=0.03, initial_c=10.0)
        outcomes = run(attack, model, images, labels, eps=10.0, slots=8)
        assert all(outcome.fooled for outcome in outcomes)
        distances.append(torch.tensor([outcome.distance for outcome in outcomes]))
    assert bool((distances[1] <= distances[0]).all())
    assert bool((distances[2] <= distances[1]).all())
    assert distances[2].median() < 0.8 * distances[0].median()


def test_too_small_a_c_is_raised_until_the_model_is_fooled():
    model = Opposites()
    images = far(model, 4)
    labels = model.labels(images)
    timid = CarliniWagner(searches=1, steps=40, learning_rate=0.02, initial_c=1e-5)
    assert not any(outcome.fooled for outcome in run(timid, model, images, labels, eps=10.0, slots=4))
    patient = timid.model_copy(update={"searches": 8})
    assert all(outcome.fooled for outcome in run(patient, model, images, labels, eps=10.0, slots=4))


def test_confidence_is_the_margin_that_is_reached():
    model = Opposites()
    images = far(model, 6)
    attack = THOROUGH.model_copy(update={"confidence": 0.5})
    outcomes = run(attack, model, images, model.labels(images), eps=10.0, slots=6)
    adversarial = torch.stack([outcome.image for outcome in outcomes])
    margins = 2 * model.score(adversarial).abs()
    assert bool((margins > 0.5 - 1e-4).all())
    assert margins.median() < 0.6


def test_it_costs_steps_times_searches_and_counts_where_it_lies_in_the_ball():
    model, images = Opposites(), greys(10)
    distances = model.distances(images, "l2")
    eps = float(distances.median()) * 1.07
    outcomes = run(THOROUGH, model, images, model.labels(images), eps=eps, slots=5)
    assert [outcome.fooled for outcome in outcomes] == (distances < eps).tolist()
    assert {(outcome.forwards, outcome.backwards) for outcome in outcomes} == {(560, 560)}


def test_black_and_white_images_can_be_moved_too():
    # Where tanh is flat, w would stand still for ever.
    model = Opposites()
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    attack = CarliniWagner(searches=4, steps=100, learning_rate=0.1, initial_c=1.0)
    outcomes = run(attack, model, images, model.labels(images), eps=10.0, slots=6)
    assert all(outcome.fooled for outcome in outcomes)
