"""Mistakes that attack libraries have made, each of which would show here if it were ours.

Elsewhere: parts of AutoAttack that are left out, adversarial images saved by truncation to 8 bits, and a normalisation
assumed inside or outside the model are questions to the harness and to what loads models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from robnet_zoo.attacks import Bim, DeepFool, Fgsm, MiFgsm, Pgd, run
from robnet_zoo.attacks.continuous_batching import Batcher
from robnet_zoo.core.units import in_image_units
from tests.attacks.classifiers import ATTACKS, GRADIENT, Counting, Opposites, greys


def one_pixel_pair(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a classifier of images of two values, (N, 1, 1, 2), whose logits are 0 and f of them."""

    def model(x: Tensor) -> Tensor:
        first, second = x.flatten(1).unbind(1)
        value = f(first, second)
        return torch.stack([value * 0, value], 1)

    return model


LABEL = torch.zeros(1, dtype=torch.long)
GREY = torch.full((1, 1, 1, 2), 0.5)


# The last iterate is never evaluated; one step gives the clean image


@pytest.mark.parametrize("attack", [Fgsm(), Bim(steps=1, step="26/255"), Pgd(steps=1, step="51/255")])
def test_a_single_step_counts(attack):
    model = one_pixel_pair(lambda a, b: a - 0.599)
    (outcome,) = run(attack, model, GREY, LABEL, eps=0.1, slots=1)
    assert (outcome.fooled, outcome.step) == (True, 1)
    assert outcome.image[0, 0, 0] == pytest.approx(0.6)
    assert outcome.forwards == 1


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_last_iterate_is_evaluated(steps):
    # Only the last of the steps leads over the boundary.
    model = one_pixel_pair(lambda a, b: a - 0.5 - (steps - 0.5) / 255)
    (outcome,) = run(Bim(steps=steps, step="1/255"), model, GREY, LABEL, eps=0.1, slots=1)
    assert (outcome.fooled, outcome.step) == (True, steps)


# The margin where all other logits are negative


def test_the_attack_on_the_margin_works_where_all_other_logits_are_negative():
    # A hinge at zero, or a mask of zeros in place of the label, has no gradient here.

    def model(x: Tensor) -> Tensor:
        s = x.flatten(1).sum(1)
        return torch.stack([-100 - s, -102.05 + s], 1)

    (outcome,) = run(Pgd(steps=10, loss="margin"), model, GREY, LABEL, eps=0.1, slots=1)
    assert outcome.fooled
    (minimal,) = run(ATTACKS["cw"], model, GREY, LABEL, eps=0.1, slots=1)
    assert minimal.fooled


# Early stop by the whole batch


def test_each_image_stops_by_itself():
    # Distances range from one step to many: each image costs its own steps, and its neighbours change nothing.
    model, images = Opposites(), greys(12)
    labels, attack = model.labels(images), Bim(steps=30, step="1/255")
    together = run(attack, model, images, labels, eps=0.2, slots=12)
    needed = (model.distances(images, "linf") / in_image_units("1/255")).ceil().int().tolist()
    assert [outcome.step for outcome in together] == needed
    assert [outcome.forwards for outcome in together] == [count + 1 for count in needed]
    assert len(set(needed)) > 3


@pytest.mark.parametrize("name", ["cw", "deepfool", "apgd"])
def test_an_image_that_is_never_fooled_prolongs_no_other(name):
    model, images = Opposites(), greys(6)
    labels, attack = model.labels(images), ATTACKS[name]
    eps = torch.full((6,), 10.0 if attack.ball == "l2" else 0.2)
    usual = run(attack, model, images, labels, eps=eps, slots=6)
    eps[0] = 1e-6  # hopeless
    hopeless = run(attack, model, images, labels, eps=eps, slots=6)
    assert not hopeless[0].fooled
    assert usual[0].fooled
    for first, other in zip(usual[1:], hopeless[1:], strict=True):
        assert (first.fooled, first.step, first.forwards) == (other.fooled, other.step, other.forwards)
        assert torch.equal(first.image, other.image)


# Restarts: the last one wins


class Lottery(nn.Module):
    """No gradient to follow: a random start wins or it does not, at about one in three."""

    def forward(self, x: Tensor) -> Tensor:
        won = ((x.flatten(1).sum(1) * 1e4).round() % 3 == 0).float()
        nothing = x.flatten(1).sum(1) * 0
        return torch.stack([nothing, nothing + 2 * won - 1], 1)


def test_a_success_of_any_restart_is_kept():
    model, images = Lottery(), greys(90)
    labels = model(images).argmax(1)
    images, labels = images[labels == 0], labels[labels == 0]
    fooled = []
    for restarts in (1, 2, 6):
        outcomes = run(Pgd(steps=1, restarts=restarts), model, images, labels, eps=0.05, slots=8)
        fooled.append({outcome.sample for outcome in outcomes if outcome.fooled})
        for outcome in outcomes:
            assert outcome.fooled == (int(model(outcome.image[None]).argmax()) == 1)
            assert outcome.fooled or outcome.tries == restarts
    assert fooled[0] < fooled[1] < fooled[2]
    assert {outcome.tries for outcome in outcomes if outcome.fooled} >= {1, 2, 3}


# MI-FGSM accumulates gradients divided by their l1 norm


def test_the_momentum_of_mi_fgsm_is_the_sum_of_gradients_divided_by_their_l1_norm():
    # The gradients are (0.9, 0.1), then (0.1, -0.9) / 1000. Divided by their l1 norms they add to (1, -0.8).
    model = one_pixel_pair(lambda a, b: torch.where(a < 0.55, 0.9 * a + 0.1 * b, 1e-3 * (0.1 * a - 0.9 * b)) - 10)
    attack = MiFgsm(steps=2, step="25/255", loss="margin")
    (outcome,) = run(attack, model, GREY, LABEL, eps=0.4, slots=1)
    step = in_image_units("25/255")
    assert outcome.image.flatten().tolist() == pytest.approx([0.5 + 2 * step, 0.5 + step - step])


def test_decay_forgets_what_was_accumulated():
    model = one_pixel_pair(lambda a, b: torch.where(a < 0.55, 0.4 * a + 0.6 * b, 0.6 * a - 0.4 * b) - 10)
    step = in_image_units("25/255")
    ends = {}
    for decay in (1.0, 0.5):  # the second sum is 0.6 - 0.4 > 0 or 0.3 - 0.4 < 0
        (outcome,) = run(MiFgsm(steps=2, step="25/255", loss="margin", decay=decay), model, GREY, LABEL, eps=0.4)
        ends[decay] = float(outcome.image[0, 0, 1])
    assert ends == {1.0: pytest.approx(0.5 + 2 * step), 0.5: pytest.approx(0.5)}


# MI-FGSM divides by a mean of zero


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_mi_fgsm_survives_a_gradient_of_zero_and_goes_on_where_it_is_none(norm):
    flat = one_pixel_pair(lambda a, b: a * 0 - 1)
    attack = MiFgsm(steps=5, loss="margin", norm=norm)
    (outcome,) = run(attack, flat, GREY, LABEL, eps=0.1, slots=1)
    assert torch.equal(outcome.image, GREY[0])

    queries = []

    def at_first_flat(x: Tensor) -> Tensor:
        queries.append(x)
        slope = 0.0 if len(queries) == 2 else 1.0  # the first query is the judge's
        return one_pixel_pair(lambda a, b: slope * a - 10)(x)

    (outcome,) = run(attack, at_first_flat, GREY, LABEL, eps=0.1, slots=1)
    assert outcome.image.flatten().tolist() == pytest.approx([0.5 + 4 * in_image_units(attack.step), 0.5])


# Gradients of parameters are computed though nobody wants them


class BackwardOfConvolutions(TorchDispatchMode):
    """Records which gradients every convolution is asked for: of its input, its weight, its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[list[bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.wanted.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", GRADIENT)
def test_no_gradient_of_a_parameter_is_computed(name, network):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = network(images).argmax(1)
    assert all(parameter.requires_grad for parameter in network.parameters())
    with BackwardOfConvolutions() as record:
        run(ATTACKS[name], network, images, labels, eps=1e-3, slots=2)
    assert len(record.wanted) >= 2
    assert all(wanted == [True, False, False] for wanted in record.wanted)


def test_the_record_of_convolutions_would_see_such_a_gradient(network):
    with BackwardOfConvolutions() as record:
        loss = network(torch.rand(2, 3, 8, 8)).sum()
        torch.autograd.grad(loss, list(network.parameters()))
    assert any(weight for _, weight, _ in record.wanted)


# Two forwards an iteration; one forward a class; loops over images


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"cw", "square", "pgd_restarts", "apgd_dlr_t"}))
def test_a_step_is_one_forward_of_all_images_together(name, network, monkeypatch):
    monkeypatch.setattr(Batcher, "_shrink", lambda *_: None)
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    proposer, attack = Counting(network), ATTACKS[name]
    labels = network(images).argmax(1)
    outcomes = run(attack, proposer, images, labels, eps=1e-3, slots=16, judge=network, early=False)
    assert proposer.calls == max(outcome.forwards for outcome in outcomes)
    assert proposer.rows == 16 * proposer.calls


def test_the_number_of_classes_changes_no_number_of_forwards(monkeypatch):
    monkeypatch.setattr(Batcher, "_shrink", lambda *_: None)
    torch.manual_seed(0)
    images = greys(8)
    calls = []
    for classes in (3, 30):
        proposer = Counting(nn.Sequential(nn.Flatten(), nn.Linear(48, classes)))
        labels = proposer.model(images).argmax(1)
        run(DeepFool(candidates=classes - 1, steps=4, overshoot=0.02), proposer, images, labels, eps=0.1, slots=8)
        calls.append(proposer.calls)
    assert calls[0] == calls[1]


# A tracer that was there before is gone


def test_a_tracer_of_ours_is_still_there_afterwards(network):
    def tracer(frame: FrameType, event: str, argument: object) -> None:
        return None

    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        run(Pgd(steps=2), network, images, torch.zeros(2, dtype=torch.long), eps=0.01, slots=2)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
