"""MI-FGSM's input diversity."""

from __future__ import annotations

import torch
from torch import Tensor

from robnet_zoo.attacks import MiFgsm, run
from tests.attacks.classifiers import EPS, small


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
    # A model of white images sees white within and black at the border; white takes 90 to 100 % of the side.
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
