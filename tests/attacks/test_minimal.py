"""What DDN and C&W share: the nearest image that fooled the model is the result."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.attacks import CarliniWagner, Ddn, run
from tests.attacks.classifiers import small

ATTACKS = [
    Ddn(steps=20, radius=0.2, resize=0.2),
    CarliniWagner(searches=3, steps=8, learning_rate=0.03, initial_c=10.0),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.kind)
def test_the_result_is_the_nearest_of_the_images_that_were_asked_about_and_fooled(attack):
    model, asked = small(), []
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    label = model(image).argmax(1)

    def listening(x):
        asked.append(x.detach().clone())
        return model(x)

    (outcome,) = run(attack, listening, image, label, eps=10.0, slots=1, judge=model)
    fooling = [x for x in asked if model(x).argmax(1) != label]
    assert 1 < len(fooling) < len(asked)  # neither the first nor every image fools
    distances = torch.stack([(x - image).norm() for x in fooling])
    assert int(distances.argmin()) < len(fooling) - 1  # nor is the last of them the nearest
    assert torch.equal(outcome.image, fooling[int(distances.argmin())][0])
    assert outcome.distance == pytest.approx(float(distances.min()))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.kind)
def test_an_image_that_cannot_be_fooled_is_left_as_it_is(attack):
    def sure(x):
        score = x.flatten(1).sum(1)
        return torch.stack([score * 0 + 1000, score], 1)

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    outcomes = run(attack, sure, images, torch.zeros(2, dtype=torch.long), eps=10.0, slots=2)
    assert [outcome.fooled for outcome in outcomes] == [False, False]
    assert torch.equal(torch.stack([outcome.image for outcome in outcomes]), images)
