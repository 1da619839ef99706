"""Continuous batching: what happens to an image depends on the image alone, and the judge decides."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import (
    Apgd,
    Attack,
    AutoAttack,
    Bim,
    CarliniWagner,
    DeepFool,
    Outcome,
    Pgd,
    Square,
    SquareL2,
    continuous_batching,
    run,
)
from robnet_zoo.attacks.continuous_batching import Batcher, craft
from robnet_zoo.errors import AttackError
from tests.attacks.classifiers import ATTACKS, Counting, Opposites, greys, small

EPS = 0.012  # some images are fooled, some are not
MIXED = ("pgd_restarts", "mi_di_fgsm", "apgd_dlr_t", "adaptive_apgd", "apgd_l2", "deepfool", "cw", "square")
SHORT = {"cw": CarliniWagner(searches=2, steps=12, learning_rate=0.05, initial_c=1.0), "square": Square(queries=30)}
mixed = pytest.mark.parametrize("attack", [(ATTACKS | SHORT)[name] for name in MIXED], ids=MIXED)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels(network: nn.Module, images: Tensor) -> Tensor:
    """Return the classes that the network gives, except for three images that it gets wrong."""
    labels = network(images).argmax(1)
    labels[[2, 9, 17]] = (labels[[2, 9, 17]] + 1) % 5
    return labels


def eps_of(attack: Attack) -> float:
    return EPS if attack.ball == "linf" else 0.09


def ledger(outcome: Outcome) -> tuple[object, ...]:
    """Return everything in an outcome but its image."""
    return tuple(value for key, value in vars(outcome).items() if key != "image")


def assert_equal(first: Sequence[Outcome], other: Sequence[Outcome]) -> None:
    """Compare outcomes bit for bit."""
    assert [ledger(outcome) for outcome in first] == [ledger(outcome) for outcome in other]
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, other, strict=True))


class Liar(nn.Module):
    """Says of every image that it is of class 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits + torch.tensor([0.0, 10_000.0] + [0.0] * (logits.shape[1] - 2))


class Limited(nn.Module):
    """A model that a batch of more than `most` images exhausts, from its call number `after` on."""

    def __init__(self, model: nn.Module, *, most: int, after: int = 0) -> None:
        super().__init__()
        self.model, self.most, self.after, self.calls = model, most, after, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if len(x) > self.most and self.calls > self.after:
            raise torch.OutOfMemoryError(f"{len(x)} images")
        return self.model(x)


class Broken(nn.Module):
    """Logits of NaN or infinity, for every image but the grey one."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        grey = ((x - 0.5).abs().flatten(1).amax(1) == 0)[:, None]
        first = x.flatten(1).sum(1, keepdim=True) * 0
        return torch.where(grey, torch.cat([first + 1, first], 1), torch.cat([first, first + self.value], 1))


# Order, shards and slots


@mixed
def test_the_order_of_the_images_changes_nothing(attack, network, images, labels):
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    straight = run(attack, network, images, labels, eps=eps_of(attack), slots=6)
    samples = order.tolist()
    mixed = run(attack, network, images[order], labels[order], eps=eps_of(attack), slots=6, samples=samples)
    assert_equal([straight[sample] for sample in samples], mixed)


@mixed
def test_shards_give_what_the_whole_gives(attack, network, images, labels):
    whole = run(attack, network, images, labels, eps=eps_of(attack), slots=6)
    parts: dict[int, Outcome] = {}
    for shard in range(3):
        samples = list(range(shard, 20, 3))
        part = run(attack, network, images[samples], labels[samples], eps=eps_of(attack), slots=6, samples=samples)
        assert [outcome.sample for outcome in part] == samples
        parts |= {outcome.sample: outcome for outcome in part}
    assert_equal(whole, [parts[sample] for sample in range(20)])


@mixed
@pytest.mark.parametrize("slots", [1, 3, 64])
def test_another_number_of_slots_gives_the_same_decisions(attack, slots, network, images, labels):
    some = run(attack, network, images[:12], labels[:12], eps=eps_of(attack), slots=6)
    other = run(attack, network, images[:12], labels[:12], eps=eps_of(attack), slots=slots)
    assert [outcome.fooled for outcome in some] == [outcome.fooled for outcome in other]
    assert {outcome.fooled for outcome in some if outcome.forwards} == {True, False}


def test_outcomes_stand_in_the_order_of_the_images_and_are_reported_once_each(network, images, labels):
    reported: list[Outcome] = []
    outcomes = run(
        Pgd(steps=3), network, images, labels, eps=EPS, slots=4, samples=range(100, 120), on_outcome=reported.append
    )
    assert [outcome.sample for outcome in outcomes] == list(range(100, 120))
    assert sorted(outcome.sample for outcome in reported) == list(range(100, 120))


def test_no_images_give_no_outcomes(network):
    assert run(Pgd(), network, torch.rand(0, 3, 8, 8), torch.zeros(0, dtype=torch.long), eps=EPS) == []


# The judge


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi_fgsm", "apgd", "square"])
def test_a_proposer_that_lies_convinces_nobody_and_its_claims_are_counted(name, network, images, labels):
    attack = ATTACKS[name]
    deaf = Opposites((3, 8, 8))  # a judge that these images, and small changes to them, do not impress
    deaf.b.data += 1000
    zeros = torch.zeros(20, dtype=torch.long)
    outcomes = run(attack, Liar(deaf), images, zeros, eps=EPS, slots=6, judge=deaf)
    assert not any(outcome.fooled for outcome in outcomes)
    assert all(outcome.unconfirmed >= 1 for outcome in outcomes)
    assert all(outcome.step is None and outcome.margin < 0 for outcome in outcomes)


def test_a_proposer_in_bfloat16_finds_what_the_original_confirms(images):
    # The original decides on the images that come out.
    model = small(seed=1)
    rough = copy.deepcopy(model).bfloat16()
    labels = model(images).argmax(1)
    outcomes = run(
        Pgd(steps=8, step="1/255"),
        lambda x: rough(x.bfloat16()).float(),
        images,
        labels,
        eps=EPS,
        slots=6,
        judge=model,
    )
    answers = model(torch.stack([outcome.image for outcome in outcomes])).argmax(1)
    assert [outcome.fooled for outcome in outcomes] == (answers != labels).tolist()
    exact = run(Pgd(steps=8, step="1/255"), model, images, labels, eps=EPS, slots=6)
    assert sum(outcome.fooled for outcome in outcomes) == pytest.approx(sum(outcome.fooled for outcome in exact), abs=1)


@pytest.mark.parametrize("attack", [Pgd(steps=1000, step="1/2550"), Apgd(steps=1000)], ids=["pgd", "apgd"])
def test_a_thousand_steps_are_taken(attack, images):
    deaf = Opposites((3, 8, 8))
    deaf.b.data += 1000
    outcomes = run(attack, deaf, images[:3], torch.zeros(3, dtype=torch.long), eps=EPS, slots=2)
    assert all(outcome.forwards == 1000 and not outcome.fooled for outcome in outcomes)


def test_an_image_whose_success_is_not_confirmed_goes_on_to_its_last_step(network, images):
    deaf = Opposites((3, 8, 8))
    deaf.b.data += 1000
    zeros = torch.zeros(20, dtype=torch.long)
    attack = Bim(steps=7, loss="margin")
    (outcome,) = run(attack, Liar(deaf), images[:1], zeros[:1], eps=EPS, slots=1, judge=deaf)
    assert (outcome.forwards, outcome.backwards, outcome.unconfirmed) == (7, 7, 7)
    assert outcome.judged == 1 + 7 + 1  # the clean image, each claim, the last iterate
    (honest,) = run(attack, deaf, images[:1], zeros[:1], eps=EPS, slots=1, judge=deaf)
    assert torch.equal(outcome.image, honest.image)  # a claim costs no step


def test_a_claim_that_comes_too_soon_does_not_hide_the_success_that_follows():
    # The proposer says `fooled` at half the way to the boundary; the judge only behind it.
    model, images = Opposites(), greys(1)
    distance = float(model.distances(images, "linf"))
    labels = model.labels(images)

    def hasty(x: Tensor) -> Tensor:
        s = model.score(x)
        shifted = s - 0.5 * model.score(images) * 1.01
        return torch.stack([shifted, -shifted, s * 0 - 50, s * 0 - 60], dim=1)

    steps = 10
    attack = Bim(steps=steps, step="1/255")
    eps = steps / 255
    judge_needs = int(distance * 255) + 1
    assert 1 < judge_needs < steps
    (outcome,) = run(attack, hasty, images, labels, eps=eps, slots=1, judge=model)
    assert outcome.fooled
    assert outcome.step == judge_needs
    assert outcome.unconfirmed > 0


@mixed
def test_the_judge_decides_where_it_is_another_model(attack, network, images):
    judge = small(seed=1)
    labels = judge(images).argmax(1)
    outcomes = run(attack, network, images, labels, eps=eps_of(attack), slots=6, judge=judge)
    wrong = judge(torch.stack([outcome.image for outcome in outcomes])).argmax(1) != labels
    fooled = torch.tensor([outcome.fooled for outcome in outcomes])
    assert bool(wrong[fooled].all())
    assert bool((wrong == fooled).all()) or attack.minimal


def test_in_a_transfer_every_image_runs_its_full_length_and_its_last_iterate_is_judged(network, images):
    judge = small(seed=1)
    labels = judge(images).argmax(1)
    attack = Pgd(steps=5, step="12/255")
    outcomes = run(attack, network, images, labels, eps=0.1, slots=6, judge=judge, early=False)
    last = judge(torch.stack([outcome.image for outcome in outcomes]))
    assert [outcome.fooled for outcome in outcomes] == (last.argmax(1) != labels).tolist()
    assert all((outcome.forwards, outcome.judged, outcome.unconfirmed) == (5, 2, 0) for outcome in outcomes)
    assert {outcome.step for outcome in outcomes} == {None, 5}
    others = last.scatter(1, labels[:, None], -torch.inf).amax(1)
    margins = (others - last.gather(1, labels[:, None])[:, 0]).tolist()  # the judge's, not the source's
    assert all(
        outcome.margin == pytest.approx(value) for outcome, value in zip(outcomes, margins, strict=True) if value > 0
    )
    assert all((outcome.margin > 0) == outcome.fooled for outcome in outcomes)


def test_what_is_crafted_is_made_towards_its_target(network, images):
    logits = network(images)
    labels, targets = logits.topk(2).indices.unbind(1)
    made = craft(Pgd(steps=5, step="4/255"), network, images, labels, targets=targets, eps=EPS, slots=6)
    after = network(torch.stack([outcome.image for outcome in made]))
    assert bool((after.gather(1, targets[:, None]) > logits.gather(1, targets[:, None])).all())
    assert all((outcome.fooled, outcome.tries, outcome.forwards) == (False, 1, 5) for outcome in made)


def test_what_is_crafted_is_the_last_iterate_of_every_image_even_of_those_that_are_wrong(network, images, labels):
    attack = Pgd(steps=5, step="4/255")
    crafted = torch.stack([made.image for made in craft(attack, network, images, labels, eps=EPS, slots=6)])
    outcomes = run(attack, network, images, labels, eps=EPS, slots=6, early=False)
    right = [index for index in range(20) if index not in (2, 9, 17)]
    assert torch.equal(crafted[right], torch.stack([outcomes[index].image for index in right]))
    assert all(not torch.equal(crafted[index], images[index]) for index in (2, 9, 17))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["pgd", "pgd_l2", "apgd", "square"])
def test_an_answer_that_is_not_finite_is_wrong(name, value):
    grey = torch.full((2, 3, 4, 4), 0.5)
    attack = ATTACKS[name].model_copy(update={"loss": "margin"} if "loss" in type(ATTACKS[name]).model_fields else {})
    outcomes = run(attack, Broken(value), grey, torch.zeros(2, dtype=torch.long), eps=EPS, slots=2)
    assert all(outcome.fooled and outcome.unconfirmed == 0 for outcome in outcomes)
    assert all(outcome.margin == float("inf") for outcome in outcomes)


@pytest.mark.parametrize("attack", [CarliniWagner(steps=20, searches=2, initial_c=10.0), DeepFool(norm="l2")])
def test_a_step_into_answers_that_are_not_finite_is_the_nearest_success(attack):
    def half(x: Tensor) -> Tensor:  # dark images have no answer, and the others are right
        bright = x.mean((1, 2, 3)) - 0.49
        return torch.stack([bright.where(bright > 0, torch.nan) + 0.01, bright * 0], 1)

    grey, labels = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, dtype=torch.long)
    for outcome in run(attack, half, grey, labels, eps=1.0, slots=2):
        assert outcome.fooled
        assert 0.01 * 48**0.5 <= outcome.distance < 0.1 * 48**0.5


def test_a_clean_answer_that_is_not_finite_is_wrong_but_it_is_not_the_target():
    images, zeros = torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    for outcome in run(Pgd(steps=2), Broken(float("nan")), images, zeros, eps=EPS, slots=2):
        assert (outcome.fooled, outcome.step, outcome.forwards) == (True, 0, 0)
    aimed = run(Pgd(steps=2), Broken(float("nan")), images, zeros, targets=zeros + 1, eps=EPS, slots=2)
    assert not any(outcome.fooled for outcome in aimed)


# What is counted


def test_images_that_are_wrong_as_they_are_cost_nothing_and_are_fooled_at_step_0(network, images, labels):
    outcomes = run(Pgd(steps=3), network, images, labels, eps=EPS, slots=6)
    for index in (2, 9, 17):
        outcome = outcomes[index]
        assert (outcome.fooled, outcome.step, outcome.forwards, outcome.backwards) == (True, 0, 0, 0)
        assert outcome.distance == 0
        assert torch.equal(outcome.image, images[index])


@pytest.mark.parametrize("name", ["pgd_restarts", "apgd_dlr_t", "apgd_l2", "square"])
def test_forwards_are_what_the_model_saw_of_each_image(name, network, images):
    attack = ATTACKS[name]
    numbered = images.clone()
    numbered[:, 0, 0, 0] = torch.arange(20) / 20
    labels = network(numbered).argmax(1)
    proposer, judge = Counting(network), Counting(network)
    outcomes = run(attack, proposer, numbered, labels, eps=0.02, slots=1, judge=judge)  # one slot is never idle
    seen = [proposer.seen.get(index, 0) for index in range(20)]
    assert [outcome.forwards for outcome in outcomes] == seen
    assert [outcome.judged for outcome in outcomes] == [judge.seen[index] for index in range(20)]


@mixed
@pytest.mark.parametrize("slots", [1, 6])
def test_a_step_is_one_call_of_the_model_and_idle_slots_are_all_that_is_not_accounted_for(
    attack, slots, network, images, labels, monkeypatch
):
    monkeypatch.setattr(Batcher, "_shrink", lambda *_: None)
    proposer = Counting(network)
    outcomes = run(attack, proposer, images, labels, eps=eps_of(attack), slots=slots, judge=network)
    forwards = sum(outcome.forwards for outcome in outcomes)
    assert proposer.rows == proposer.calls * slots
    assert proposer.rows >= forwards
    assert proposer.calls >= max(outcome.forwards for outcome in outcomes) or attack.foreseeable
    if slots == 1:
        assert proposer.calls == forwards
        expected = 0 if attack.gradient_free else sum(outcome.backwards for outcome in outcomes)
        assert proposer.backward_calls == expected
        assert sum(outcome.backwards for outcome in outcomes) == expected


@mixed
def test_a_batch_that_is_cut_down_at_the_end_gives_the_same_bits(attack, network, images, labels, monkeypatch):
    shrunk = run(attack, network, images, labels, eps=eps_of(attack), slots=16)
    monkeypatch.setattr(Batcher, "_shrink", lambda *_: None)
    expected = run(attack, network, images, labels, eps=eps_of(attack), slots=16)
    for first, other in zip(shrunk, expected, strict=True):
        assert torch.equal(first.image, other.image)
        assert replace(first, image=other.image) == other


SEARCHES = [Square(queries=300), SquareL2(queries=100), Square(queries=300, trial=30), Square(queries=60, restarts=2)]


class Doubtful(nn.Module):
    """Gives the answers of a model, but claims class 4 for about a tenth of all images, whichever they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        claimed = (x.sum((1, 2, 3)) * 1000).floor() % 10 == 0
        return self.model(x) + 9 * torch.eye(5)[4] * claimed[:, None]


@pytest.mark.parametrize("attack", SEARCHES)
def test_idle_slots_look_ahead_and_change_nothing_but_the_calls(attack, network, images, monkeypatch):
    eps = 0.02 if attack.ball == "linf" else 0.2
    labels = network(images).argmax(1)
    without, ahead = Counting(network), Counting(network)
    outcomes = run(attack, ahead, images, labels, eps=eps, slots=48, judge=network)
    monkeypatch.setattr(continuous_batching, "FORESIGHT", 1)
    assert_equal(outcomes, run(attack, without, images, labels, eps=eps, slots=48, judge=network))
    assert 0 < sum(outcome.fooled for outcome in outcomes) < 20
    assert without.calls >= max(outcome.forwards for outcome in outcomes) > 1.5 * ahead.calls


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("attack", SEARCHES)
def test_what_slots_ahead_claim_in_vain_changes_nothing_either(attack, early, network, images, monkeypatch):
    labels, targets = network(images).topk(2).indices.unbind(1)
    given = {"targets": targets, "eps": 0.01, "slots": 48, "judge": network, "early": early}
    outcomes = run(attack, Doubtful(network), images, labels, **given)
    monkeypatch.setattr(continuous_batching, "FORESIGHT", 1)
    assert_equal(outcomes, run(attack, Doubtful(network), images, labels, **given))
    assert any(outcome.unconfirmed for outcome in outcomes) is early


def test_memory_that_runs_out_after_a_width_was_refused_halves_the_slots(network, images, labels):
    widths = []

    def model(x: Tensor) -> Tensor:
        widths.append(len(x))
        if len(x) == 16 and 8 in widths:
            raise torch.OutOfMemoryError
        return network(x) + 1e-6 * torch.eye(5)[0] * (len(x) != 16)  # so that narrower batches give other bits

    attack = Pgd(steps=30, step="1/255")
    outcomes = run(attack, model, images, labels, eps=EPS, slots=16, judge=network)
    expected = run(attack, network, images, labels, eps=EPS, slots=16)
    assert [outcome.fooled for outcome in outcomes] == [outcome.fooled for outcome in expected]
    assert widths.index(8) < len(widths) - 1 - widths[::-1].index(16)


def test_a_batch_is_cut_down_to_what_is_still_at_work(network, images):
    # Twenty images of twelve steps in sixteen slots take sixteen rows for twelve steps, then four.
    proposer, labels = Counting(network), network(images).argmax(1)
    run(Pgd(steps=12), proposer, images, labels, eps=EPS, slots=16, judge=network, early=False)
    assert proposer.sizes == [16] * 12 + [16, 4] + [4] * 11  # the first four are the comparison


def test_a_batch_is_cut_down_less_where_it_would_answer_differently(network):
    class Picky(nn.Module):
        def forward(self, x):
            return network(x) + 1e-6 * (len(x) not in (16, 12))

    images = torch.rand(22, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model, labels = Counting(Picky()), network(images).argmax(1)
    run(Pgd(steps=12), model, images, labels, eps=EPS, slots=16, judge=network, early=False)
    assert model.sizes == [16] * 12 + [16, 8] + [16, 12] + [12] * 10  # 8 slots, then 12, are compared for 6 images


def test_a_batch_is_never_cut_down_for_a_model_that_answers_differently_in_a_smaller_one(network, images):
    class Crowded(nn.Module):
        def forward(self, x):
            return network(x) + 1e-6 * len(x)

    model, labels = Counting(Crowded()), network(images).argmax(1)
    run(Pgd(steps=12), model, images, labels, eps=0.05, slots=16, judge=network)
    smaller = [rows for rows in model.sizes if rows < 16]
    assert len(set(smaller)) == len(smaller) <= 5  # compared once each: 12, 8, 4, 2 and 1 at most


def test_slots_are_refilled_at_once(network, images, labels):
    # Twenty images of five steps each, in four slots, take 25 calls at most.
    proposer = Counting(network)
    run(Pgd(steps=5), proposer, images, network(images).argmax(1), eps=EPS, slots=4, judge=network, early=False)
    assert proposer.calls == 20 * 5 / 4


@pytest.mark.parametrize("attack", [Pgd(steps=4, restarts=3), Apgd(steps=4, loss="dlr", target_classes=3)])
def test_only_what_withstood_is_tried_again(attack, network, images):
    labels = network(images).argmax(1)
    outcomes = run(attack, network, images, labels, eps=EPS / 2, slots=6)
    for outcome in outcomes:
        if not outcome.fooled:
            assert (outcome.tries, outcome.forwards) == (3, 3 * 4)
        else:
            assert outcome.forwards <= 4 * outcome.tries
            assert outcome.forwards > 4 * (outcome.tries - 1)
    assert {outcome.fooled for outcome in outcomes} == {True, False}
    assert 1 in {outcome.tries for outcome in outcomes}


def test_an_image_is_through_with_all_its_tries_before_others_begin(network, images):
    proposer, calls = Counting(network), []
    run(
        Pgd(steps=5, restarts=3),
        proposer,
        images,
        network(images).argmax(1),
        eps=1e-4,
        slots=4,
        judge=network,
        on_outcome=lambda outcome: calls.append(proposer.calls),
    )
    assert calls == [15 * (1 + index // 4) for index in range(20)]


def test_a_budget_of_its_own_for_every_image_is_kept(network, images, labels):
    eps = torch.linspace(0, 0.06, 20)
    outcomes = run(Pgd(steps=4, step="8/255"), network, images, labels, eps=eps, slots=6, early=False)
    right = [index for index in range(20) if index not in (2, 9, 17)]
    for index in right:
        assert outcomes[index].distance == pytest.approx(float(eps[index]), abs=1e-6)
    for index in (1, 5, 19):
        alone = run(
            Pgd(steps=4, step="8/255"),
            network,
            images[index : index + 1],
            labels[index : index + 1],
            eps=float(eps[index]),
            samples=[index],
            slots=6,
            early=False,
        )
        assert_equal([outcomes[index]], alone)


def test_clean_logits_that_are_known_already_are_not_asked_for_again(network, images, labels):
    judge = Counting(network)
    proposer = Counting(network)
    logits = network(images).detach()
    given = run(Pgd(steps=3), proposer, images, labels, eps=EPS, slots=6, judge=judge, clean_logits=logits)
    asked = run(Pgd(steps=3), network, images, labels, eps=EPS, slots=6)
    assert [outcome.fooled for outcome in given] == [outcome.fooled for outcome in asked]
    assert sum(outcome.judged for outcome in given) == sum(outcome.judged for outcome in asked) - 20


# Out of memory


@pytest.mark.parametrize("after", [0, 7, 20])
@mixed
def test_out_of_memory_halves_the_slots_and_changes_no_outcome(attack, after, network, images, labels):
    limited = Limited(network, most=8, after=after)
    options = {"eps": eps_of(attack), "judge": network}
    halved = run(attack, limited, images, labels, slots=64, **options)
    roomy = run(attack, network, images, labels, slots=8, **options)
    if after == 0:
        assert_equal(halved, roomy)
    decided = [(outcome.fooled, outcome.tries, outcome.forwards, outcome.backwards) for outcome in halved]
    assert decided == [(outcome.fooled, outcome.tries, outcome.forwards, outcome.backwards) for outcome in roomy]


def test_a_judge_that_is_out_of_memory_halves_the_slots_too(network, images, labels):
    limited = Limited(network, most=8)
    halved = run(Pgd(steps=4), network, images, labels, eps=EPS, slots=64, judge=limited)
    assert_equal(halved, run(Pgd(steps=4), network, images, labels, eps=EPS, slots=8))


def test_a_judge_that_is_out_of_memory_in_the_midst_of_it_loses_no_image(network, images, labels):
    limited = Limited(network, most=3, after=3)
    halved = run(Pgd(steps=4), network, images, labels, eps=EPS, slots=12, judge=limited)
    roomy = run(Pgd(steps=4), network, images, labels, eps=EPS, slots=12)
    assert [outcome.fooled for outcome in halved] == [outcome.fooled for outcome in roomy]
    assert [outcome.forwards for outcome in halved] == [outcome.forwards for outcome in roomy]


def test_memory_that_runs_out_within_a_step_takes_no_half_step(network, images, labels):
    # `advance` changes some rows, and then asks for more memory than there is.

    class Fails(Bim):
        def advance(self, rows, seen):
            super().advance(rows, seen)
            calls.append(len(rows["x"]))
            if len(rows["x"]) > 4 and len(calls) > 2:
                raise torch.OutOfMemoryError

    calls: list[int] = []
    halved = run(Fails(steps=6), network, images, labels, eps=EPS, slots=8)
    roomy = run(Bim(steps=6), network, images, labels, eps=EPS, slots=8)
    assert calls[2] == 8
    assert calls[3] == 4
    for first, other in zip(halved, roomy, strict=True):
        assert (first.fooled, first.step, first.forwards) == (other.fooled, other.step, other.forwards)
        torch.testing.assert_close(first.image, other.image, rtol=0, atol=1e-6)


def test_a_single_image_that_does_not_fit_is_an_error(network, images, labels):
    with pytest.raises(torch.OutOfMemoryError):
        run(Pgd(), Limited(network, most=0), images, labels, eps=EPS, judge=network)


# What is refused


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_images_outside_the_box_are_refused(value, network, images, labels):
    images = images.clone()
    images[3, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got values from"):
        run(Pgd(), network, images, labels, eps=EPS)


@pytest.mark.parametrize("value", [-1, 5])
def test_labels_out_of_range_are_refused(value, network, images, labels):
    labels = labels.clone()
    labels[4] = value
    with pytest.raises(ValueError, match="expected labels and targets from 0 to 4"):
        run(Pgd(), network, images, labels, eps=EPS)


def test_a_target_out_of_range_is_refused(network, images, labels):
    with pytest.raises(ValueError, match="expected labels and targets from 0 to 4"):
        run(Pgd(), network, images, labels, eps=EPS, targets=torch.full_like(labels, 5))


def test_an_attack_of_whole_batches_is_refused(network, images, labels):
    with pytest.raises(AttackError, match="expected an attack that moves image by image, got AutoAttack"):
        run(AutoAttack(), network, images, labels, eps=EPS)


def test_a_number_of_samples_that_is_not_that_of_the_images_is_refused(network, images, labels):
    with pytest.raises(AttackError, match="expected 20 samples, a number for each image, got 3"):
        run(Pgd(), network, images, labels, eps=EPS, samples=range(3))


@pytest.mark.parametrize(
    ("model", "got"),
    [(lambda x: (x,), "tuple"), (lambda x: x, r"\(64, 3, 8, 8\)"), (lambda x: x.sum((1, 2, 3)), r"\(64,\)")],
)
def test_a_model_that_gives_no_logits_is_refused(model, got, images, labels):
    with pytest.raises(AttackError, match=rf"expected logits \(N, K\) of 64 images, got {got}"):
        run(Pgd(), model, images, labels, eps=EPS)


@pytest.mark.parametrize("attack", [Pgd(), DeepFool(), Apgd()])
def test_a_model_without_gradients_is_refused_by_an_attack_that_asks_for_them(attack, network, images, labels):
    with pytest.raises(
        AttackError, match="expected logits that depend on the images by operations that have gradients"
    ):
        run(attack, lambda x: network(x.detach()), images, labels, eps=EPS)


@pytest.mark.parametrize(("name", "value"), [("slots", 0), ("slots", 2.5), ("seed", -1), ("seed", 1.5)])
def test_slots_and_seeds_that_are_no_such_integers_are_refused(name, value, network, images, labels):
    limits = {"slots": "from 1 to 65,536", "seed": "of 0 or more"}[name]
    with pytest.raises(AttackError, match=f"expected {name} as an integer {limits}, got {value}"):
        run(Pgd(), network, images, labels, eps=EPS, **{name: value})


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout()])
def test_a_model_whose_answers_would_change_it_or_are_random_is_refused(layer, network, images, labels):
    trained = nn.Sequential(layer, small()).train()
    kept = [value.clone() for value in trained.state_dict().values()]
    for attack in (run, craft):
        with pytest.raises(
            AttackError, match=r"expected a model in eval mode, got one in training mode; model.eval\(\)"
        ):
            attack(Pgd(), trained, images, labels, eps=EPS)
    with pytest.raises(AttackError, match="expected a model in eval mode"):
        run(Pgd(), network, images, labels, eps=EPS, judge=trained)
    assert all(torch.equal(*pair) for pair in zip(kept, trained.state_dict().values(), strict=True))
    run(Pgd(steps=1), trained.eval(), images, labels, eps=EPS)
    same_in_any_mode = nn.Sequential(nn.Flatten(), nn.LazyLinear(5)).train()
    run(Pgd(steps=1), same_in_any_mode, images, labels, eps=EPS)


@pytest.mark.parametrize("changed", [torch.Tensor.double, lambda x: x.permute(0, 2, 3, 1)], ids=["float64", "NHWC"])
def test_images_that_the_model_does_not_take_are_refused_with_its_reason(changed, network, images, labels):
    with pytest.raises(AttackError, match=r"expected images that the model takes, got float(32|64) of shape \(\d+, "):
        run(Pgd(), network, changed(images), labels, eps=EPS)


def test_targets_that_are_labels_are_refused(network, images, labels):
    targets = (labels + 1) % 5
    targets[0] = labels[0]
    with pytest.raises(
        AttackError, match="expected other classes than the labels as targets, got the label of 1 image"
    ):
        run(Pgd(), network, images, labels, eps=EPS, targets=targets)


@pytest.mark.parametrize("attack", [Pgd(loss="dlr"), Apgd(loss="dlr")])
def test_a_loss_that_needs_more_classes_than_there_are_is_refused(attack, images):
    three = small(3)
    with pytest.raises(ValueError, match="the loss dlr needs 4 classes, got 3"):
        run(attack, three, images, three(images).argmax(1), eps=EPS)


@pytest.mark.parametrize("early", [True, False])  # a claim on the way, or the last image
@pytest.mark.parametrize(("grey", "eps"), [(0.5, 0.1), (0.2, 0.4)], ids=["ball", "box"])
def test_a_success_outside_the_ball_or_the_box_is_none_and_is_counted(grey, eps, early):
    class Leaves(Bim):
        def advance(self, rows, seen):
            rows["x"] = rows["x"] + 0.3 * seen.gradient.sign()

    model, images = Opposites(), torch.full((3, 3, 4, 4), grey + 0.001)
    labels = model(images).argmax(1)
    for outcome in run(Leaves(steps=2 if early else 1), model, images, labels, eps=eps, slots=2, early=early):
        assert not outcome.fooled
        assert outcome.unconfirmed == (2 if early else 1)  # a claim, and then the last image
        assert outcome.margin < 0
        assert int(model(outcome.image[None]).argmax()) != int(labels[0])
