"""An outcome tells what was given for an image or a batch, and what that cost."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.attacks import Pgd, run
from robnet_zoo.attacks.losses import margin
from robnet_zoo.attacks.outcome import BatchOutcome
from tests.attacks.classifiers import Opposites, greys


def test_an_outcome_describes_its_own_image() -> None:
    model, images = Opposites(), greys(20)
    labels, eps = model.labels(images), float(model.distances(images, "linf").median())
    outcomes = run(Pgd(steps=20, step="1/255"), model, images, labels, eps=eps, slots=6)
    assert {outcome.fooled for outcome in outcomes} == {True, False}
    for clean, label, outcome in zip(images, labels, outcomes, strict=True):
        logits = model(outcome.image[None]).detach()
        assert outcome.fooled == (int(logits.argmax(1)) != int(label)) == (outcome.margin > 0)
        assert outcome.fooled == (outcome.step is not None)
        assert outcome.distance == pytest.approx(float((outcome.image - clean).abs().max()), abs=1e-6)
        if outcome.fooled:
            assert outcome.margin == pytest.approx(float(margin(logits, label[None], torch.tensor([-1]))), abs=1e-5)


def test_the_fooled_images_of_a_batch_are_those_that_something_broke() -> None:
    outcome = BatchOutcome(
        images=torch.zeros(4, 3, 2, 2),
        broken_by=("clean", "apgd-ce", None, "square"),
        unconfirmed=(False,) * 4,
        distances=(0.0,) * 4,
        margins=(1.0, 1.0, -1.0, 1.0),
        flags=(),
        forwards=9,
        backwards=3,
        seconds=0.1,
    )
    assert outcome.fooled == (True, True, False, True)
