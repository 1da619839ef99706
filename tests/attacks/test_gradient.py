"""What the attacks that step along gradients share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robnet_zoo.attacks import Bim, Fgsm, MiFgsm, Pgd, run
from robnet_zoo.errors import DocumentError


def test_an_l2_step_follows_a_gradient_whose_square_is_zero_in_float32():
    # Where the cross-entropy is saturated, a gradient of 1e-30 is a direction like any other.
    images = torch.full((1, 1, 2, 2), 0.5)

    def flat(x: Tensor) -> Tensor:
        s = x.flatten(1) @ torch.tensor([3e-30, 4e-30, 0, 0])
        return torch.stack([s * 0, s - 1], 1)

    attack = Bim(steps=1, step="25/255", norm="l2", loss="margin")
    (outcome,) = run(attack, flat, images, torch.zeros(1, dtype=torch.long), eps=0.5, slots=1)
    moved = (outcome.image - 0.5).flatten() * 255 / 25
    torch.testing.assert_close(moved, torch.tensor([0.6, 0.8, 0, 0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Bim, Pgd, MiFgsm])
def test_a_step_is_a_number_in_python_and_at_most_1_in_l_infinity(kind):
    assert kind(step=2 / 255) == kind(step="2/255")
    assert kind(step=1.5, norm="l2").step == "1.5"
    with pytest.raises(DocumentError, match=rf"^{kind.__name__}: step: expected at most 1, .*did you mean 2/255\?"):
        kind(step=2)


def test_a_row_whose_gradient_is_nan_stays_where_it_is_and_the_others_move():
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
