"""Adaptive Auto-PGD: what its short tries learn decides what the long one does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import AdaptiveApgd, Apgd, AutoAttack, run
from robnet_zoo.attacks.adaptive_apgd import EXPLORING
from robnet_zoo.attacks.attack import Cost, Rows
from robnet_zoo.attacks.random import Key
from tests.attacks.classifiers import greys, small

EPS = 0.01
SHORT = {"explore": 4, "probe": 12, "steps": 6}


class Recorded(AdaptiveApgd):
    """Keeps where every try of an image begins and which class it aims at."""

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        for key, aim, x, near in zip(keys, rows["aim"].tolist(), rows["x"], rows["near_x"], strict=True):
            begun.setdefault(key.sample, []).append((aim, torch.equal(x, near)))


begun: dict[int, list[tuple[int, bool]]] = {}


@pytest.fixture
def linear() -> nn.Sequential:
    """Return a classifier of six classes that is linear in the image, (3, 4, 4), and whose label 0 wins by far."""
    weight = 0.3 * torch.randn(6, 48, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
    model[1].weight.data, model[1].bias.data = weight, torch.tensor([9.0, 0, 0, 0, 0, 0])
    return model.eval()


def test_the_long_try_goes_on_at_the_class_that_the_closed_form_names(linear: nn.Sequential) -> None:
    begun.clear()
    images = greys(12)
    labels = torch.zeros(12, dtype=torch.long)
    outcomes = run(Recorded(classes=5, **SHORT), linear, images, labels, eps=EPS, slots=5)
    assert not any(outcome.fooled for outcome in outcomes)
    weight = linear[1].weight.detach()
    reach = (weight[1:] - weight[0]).abs().sum(1)  # of a ball of radius 1, towards every class
    gaps = linear(images).detach()[:, 1:] - linear(images).detach()[:, :1] + EPS * reach
    for sample, tries in begun.items():
        aims = [aim for aim, _ in tries]
        assert aims[:2] == [-1, -1]
        assert sorted(aims[2:7]) == [1, 2, 3, 4, 5]
        assert aims[7] == 1 + int(gaps[sample].argmax())
        assert [near for _, near in tries] == [False] * 7 + [True]


def test_another_restart_chooses_its_class_by_its_own_probes(linear: nn.Sequential) -> None:
    attack, images = AdaptiveApgd(restarts=2, classes=2, **SHORT), greys(1)
    last = len(attack.budgets(6)) - 1
    rows = {"clean": images, "target": torch.tensor([-1]), "clean_logits": linear(images).detach()}
    rows |= attack.unknown(rows) | {"near_gap": torch.tensor([-2.0]), "near_class": torch.tensor([3])}
    ended = {"gap": torch.tensor([-1.0]), "gap_x": images, "gap_logits": rows["clean_logits"], "aim": torch.tensor([4])}
    for number, known in ((EXPLORING - 1, 3), (EXPLORING, 4), (last, 3)):
        learnt = attack.learnt(rows | ended | {"try": torch.tensor([number])})
        assert learnt["near_class"].tolist() == [known]


def test_a_linear_model_is_fooled_exactly_where_the_closed_form_says(linear: nn.Sequential) -> None:
    linear[1].bias.data[0] = 1.2
    images = greys(60)
    labels = torch.zeros(60, dtype=torch.long)
    weight = linear[1].weight.detach()
    gaps = (linear(images)[:, 1:] - linear(images)[:, :1]).detach() + EPS * (weight[1:] - weight[0]).abs().sum(1)
    outcomes = run(AdaptiveApgd(**SHORT), linear, images, labels, eps=EPS)
    assert [outcome.fooled for outcome in outcomes] == (gaps.amax(1) > 0).tolist()
    assert 0 < sum(outcome.fooled for outcome in outcomes) < 60


def test_an_image_that_withstands_costs_a_tenth_of_autoattack_and_what_cost_says() -> None:
    model, images = small(10), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = model(images).argmax(1)
    attack = AdaptiveApgd()
    outcomes = run(attack, model, images, labels, eps=1e-6)
    assert {(outcome.fooled, outcome.forwards, outcome.backwards) for outcome in outcomes} == {
        (False, *attack.cost(10))
    }
    whole = AutoAttack().cost(10)
    assert attack.cost(10).backwards <= whole.backwards / 10
    assert attack.cost(10).forwards <= whole.forwards / 10
    assert AdaptiveApgd(restarts=2).cost(10) == Cost(2 * attack.cost(10).forwards, 2 * attack.cost(10).backwards)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_few_classes_are_enough_and_no_image_withstands_that_apgd_fools(classes: int) -> None:
    model, images = small(classes), torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    labels = model(images).argmax(1)
    adaptive = run(AdaptiveApgd(**SHORT), model, images, labels, eps=0.02)
    plain = run(Apgd(steps=12), model, images, labels, eps=0.02)
    missed = [ours.sample for ours, other in zip(adaptive, plain, strict=True) if other.fooled and not ours.fooled]
    assert missed == []
    assert 0 < sum(outcome.fooled for outcome in adaptive) < 30


def test_outcomes_do_not_depend_on_the_slots() -> None:
    model, images = small(), torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = model(images).argmax(1)
    first, second = (run(AdaptiveApgd(**SHORT), model, images, labels, eps=0.02, slots=slots) for slots in (3, 8))
    assert [(outcome.fooled, outcome.tries, outcome.forwards) for outcome in first] == [
        (other.fooled, other.tries, other.forwards) for other in second
    ]


def test_a_try_ends_where_its_first_gradient_is_zero() -> None:
    network, images = small(10), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    labels = network(images).argmax(1)
    attack = AdaptiveApgd(**SHORT)

    def rounded(x: Tensor) -> Tensor:
        return network((x * 15).round() / 15)

    def saturated(x: Tensor) -> Tensor:
        return 1e6 * network(x)  # softmax is exactly one-hot, so the cross-entropy has no slope and DLR has

    tries, whole = attack.tries(10), attack.cost(10).backwards
    outcomes = {model: run(attack, model, images, labels, eps=1e-6) for model in (rounded, saturated, network)}
    assert {outcome.backwards for outcome in outcomes[rounded]} == {tries}
    assert {outcome.backwards for outcome in outcomes[saturated]} == {whole - attack.explore + 1}
    assert {outcome.backwards for outcome in outcomes[network]} == {whole}
