"""DDN, whose steps have a direction and a length of their own."""

from __future__ import annotations

import torch

from robnet_zoo.attacks import Ddn, run
from tests.attacks.classifiers import Opposites, far, greys, small


def test_the_distance_to_the_boundary_of_a_linear_model_is_found():
    model = Opposites()
    images = far(model, 8)
    outcomes = run(Ddn(radius=0.2), model, images, model.labels(images), eps=10.0, slots=8)
    ratios = torch.tensor([outcome.distance for outcome in outcomes]) / model.distances(images, "l2")
    assert all(outcome.fooled for outcome in outcomes)
    assert ratios.min() >= 1 - 1e-5
    assert ratios.max() < 1.05


def test_it_costs_its_steps_and_counts_where_it_lies_in_the_ball():
    model, images = Opposites(), greys(10)
    distances = model.distances(images, "l2")
    eps = float(distances.median()) * 1.07
    outcomes = run(Ddn(radius=0.2), model, images, model.labels(images), eps=eps, slots=5)
    assert [outcome.fooled for outcome in outcomes] == (distances < eps).tolist()
    assert {(outcome.forwards, outcome.backwards) for outcome in outcomes} == {(100, 100)}


def test_the_sphere_grows_until_an_image_fools_the_model():
    model, images = Opposites(), far(Opposites(), 4)
    labels = model.labels(images)
    few, many = (run(Ddn(radius=0.01, steps=steps), model, images, labels, eps=10.0, slots=4) for steps in (5, 80))
    assert not any(outcome.fooled for outcome in few)
    assert all(outcome.fooled for outcome in many)


def test_each_step_lies_on_a_sphere_of_the_published_radii():
    # A model that is never fooled: the radius grows by `resize` a step, from an image far from black and white.
    seen = []

    def model(x):
        seen.append((x.detach() - 0.5).flatten(1).norm(dim=1))
        score = x.flatten(1).sum(1)
        return torch.stack([score * 0 + 120, score], 1)

    grey = torch.full((1, 3, 8, 8), 0.5)
    run(Ddn(steps=6, radius=0.1, resize=0.2), model, grey, torch.zeros(1, dtype=torch.long), eps=1.0, slots=1)
    torch.testing.assert_close(torch.cat(seen[1:7]), torch.tensor([0.0] + [0.1 * 1.2**t for t in range(1, 6)]))


def test_a_gradient_of_zero_or_nan_moves_nothing():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    flat = small()
    labels = flat(images).argmax(1)
    with torch.no_grad():
        flat[0].weight.zero_()
        flat[-1].bias.copy_(torch.nn.functional.one_hot(labels[:1], 5)[0] * 100.0)
    outcomes = run(Ddn(steps=4), flat, images[:1], labels[:1], eps=1.0, slots=1)
    assert not outcomes[0].fooled
    assert torch.equal(outcomes[0].image, images[0])
