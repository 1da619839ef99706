"""Auto-PGD, against its paper; `test_against_peers` holds it against the authors' code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.attacks import Apgd, run
from robnet_zoo.attacks.apgd import checkpoint_windows
from robnet_zoo.attacks.attack import Rows, Seen
from tests.attacks.classifiers import Opposites, greys, small


@dataclass(frozen=True)
class Step:
    """Of every slot: where it was and went, with steps of which length, and the best loss."""

    clean: Tensor
    label: Tensor
    x: Tensor
    moved: Tensor
    length: Tensor  # before a checkpoint
    halved: Tensor  # after it
    best: Tensor


class Recorded(Apgd):
    """Keeps what every step saw and did."""

    def advance(self, rows: Rows, seen: Seen) -> None:
        x, length = rows["x"], rows["step"].flatten()
        super().advance(rows, seen)
        halved = rows["step"].flatten()
        steps.append(Step(rows["clean"], rows["label"], x, rows["x"], length, halved, rows["best"]))


steps: list[Step] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    steps.clear()


def test_checkpoints_of_100_steps_are_those_of_the_paper():
    # p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06).
    assert list(checkpoint_windows(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoint_windows(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("count", [2, 5, 10, 49, 1000])
def test_checkpoints_of_any_number_of_steps_lie_within_them(count):
    windows = checkpoint_windows(count)
    assert all(0 < at <= count and window >= 1 for at, window in windows.items())
    assert windows


def test_the_first_step_is_twice_eps_and_steps_only_ever_halve():
    model, images = small(), torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    run(Recorded(steps=40), model, images, model(images).argmax(1), eps=0.01, slots=6, early=False)
    torch.testing.assert_close(steps[0].length, torch.full((6,), 0.02))
    ratios = torch.stack([step.halved / step.length for step in steps])
    assert set(ratios.unique().tolist()) == {0.5, 1.0}
    halved = {t for t, row in enumerate(ratios) if (row == 0.5).any()}
    assert halved <= set(checkpoint_windows(40))


def test_where_the_step_is_halved_the_way_goes_on_from_the_best_point():
    # The first step of half the length starts at the best image so far, and so does the momentum of the next.
    # Each goes 0.75 of the way of a step of its length and 0.25 of the way that led to where it starts.
    model, images = small(), torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    run(Recorded(steps=40), model, images, model(images).argmax(1), eps=0.01, slots=8, early=False)
    checked = 0
    for t, step in enumerate(steps[:-1]):
        for row in (step.halved < step.length).nonzero()[:, 0].tolist():
            seen = torch.stack([earlier.x[row] for earlier in steps[: t + 1]])
            losses = F.cross_entropy(model(seen), step.label[row].expand(len(seen)), reduction="none")
            best, length = seen[losses.argmax()], float(step.halved[row])
            reach = 0.75 * length + 0.25 * (best - steps[t - 1].x[row]).abs()
            assert bool(((step.moved[row] - best).abs() <= reach + 1e-6).all())
            following = steps[t + 1]
            if following.halved[row] == length:
                reach = 0.75 * length + 0.25 * (step.moved[row] - best).abs()
                assert bool(((following.moved[row] - step.moved[row]).abs() <= reach + 1e-6).all())
                checked += 1
    assert checked > 4


def test_the_best_loss_never_falls():
    model, images = small(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    run(Recorded(steps=30), model, images, model(images).argmax(1), eps=0.02, slots=4, early=False)
    best = torch.stack([step.best for step in steps])
    assert bool((best.diff(dim=0) >= 0).all())
    assert bool((best[-1] > best[0]).any())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_starts_on_the_sphere(norm):
    model, images = Opposites(), greys(4)
    run(Recorded(steps=2, norm=norm), model, images, model.labels(images), eps=1e-3, slots=4, early=False)
    delta = (steps[0].x - steps[0].clean).flatten(1)
    lengths = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((4,), 1e-3), rtol=1e-3, atol=1e-6)


def test_the_targets_are_the_likeliest_wrong_classes_one_a_try():
    class Aims(Apgd):
        def advance(self, rows: Rows, seen: Seen) -> None:
            super().advance(rows, seen)
            aims.append(rows["aim"].tolist())

    aims: list[list[int]] = []
    logits = torch.tensor([[0.3, 9.0, 0.1, 0.4, 0.2]])
    (outcome,) = run(
        Aims(steps=2, loss="dlr", target_classes=3, restarts=2),
        lambda x: logits + x.flatten(1).sum(1, keepdim=True) * 0,
        torch.full((1, 1, 2, 2), 0.5),
        torch.tensor([1]),
        eps=0.1,
        slots=1,
    )
    assert [aim for (aim,) in aims] == [3] * 4 + [0] * 4 + [4] * 4  # two steps, two restarts each
    assert outcome.tries == 6


def test_there_are_no_more_targets_than_wrong_classes():
    assert Apgd(loss="dlr", target_classes=9).tries(4) == 3
    assert Apgd(loss="dlr", target_classes=9).tries(100) == 9
    assert Apgd().tries(10) == 1


def test_any_wrong_class_is_a_success_of_a_targeted_try():
    # The boundary to class 1 is near; the first target, the likeliest wrong class, is out of reach.

    def model(x: Tensor) -> Tensor:
        s = x.flatten(1).sum(1)
        return torch.stack([s * 0 + 1, s - 1.1, s * 0 + 0.99 - 1e-3 * s, s * 0 - 9], 1)

    images = torch.full((1, 1, 2, 2), 0.5)
    attack = Apgd(steps=10, loss="cross_entropy", target_classes=1)
    (outcome,) = run(attack, model, images, torch.tensor([0]), eps=0.1, slots=1)
    assert model(images).argsort(descending=True)[0, 1] == 2
    answer = int(model(outcome.image[None]).argmax())
    assert outcome.fooled == (answer != 0)


def test_what_it_is_called():
    assert Apgd().title == "apgd_ce"
    assert Apgd(loss="dlr").title == "apgd_dlr"
    assert Apgd(loss="dlr", target_classes=9).title == "apgd_dlr_t"
