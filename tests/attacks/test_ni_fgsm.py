"""NI-FGSM's look ahead, and the scaled copies of SI-NI-FGSM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robnet_zoo.attacks import NiFgsm, run
from robnet_zoo.attacks.ball import length


def seen_by(attack: NiFgsm) -> Tensor:
    """Return what a model is shown whose logits are plus and minus the sum of pixels, from grey: (Q, 1, 2, 2)."""
    shown: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        shown.append(x.detach()[0])
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    run(attack, model, torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.long), eps=0.4, slots=1)
    return torch.stack(shown[1:-1])  # between the judge's looks


def test_a_query_looks_as_far_ahead_as_the_sum_of_gradients_leads():
    # Equal gradients: after t steps the sum is t, at a decay of 1/2 it is 1, then 3/2.
    for decay, ahead in ((1.0, [0, 1, 2]), (0.5, [0, 0.5, 0.75])):
        shown = seen_by(NiFgsm(steps=3, step="10/255", decay=decay))
        expected = 0.5 - (torch.arange(3) + torch.tensor(ahead)) * 10 / 255
        torch.testing.assert_close(shown[:, 0, 0, 0], expected)


def test_the_look_ahead_in_l2_has_the_length_of_a_step():
    shown = seen_by(NiFgsm(steps=2, step="10/255", norm="l2"))
    assert float(length(shown[1:] - 0.5, "l2")) == pytest.approx(20 / 255)


def test_copies_are_halves_of_each_other():
    shown = seen_by(NiFgsm(steps=1, scales=3))
    torch.testing.assert_close(shown[:, 0, 0, 0], torch.tensor([0.5, 0.25, 0.125]))


def test_results_name_the_attack_by_its_copies():
    assert (NiFgsm().title, NiFgsm(scales=5).title) == ("ni_fgsm", "si_ni_fgsm")
