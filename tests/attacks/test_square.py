"""Square, the random search."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import Outcome, Square, SquareL2, run
from robnet_zoo.attacks.random import Key
from robnet_zoo.errors import AttackError
from tests.attacks.classifiers import Opposites, far, greys, small


def test_queries_are_forwards_and_nothing_is_differentiated():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = small()
    labels = network(images).argmax(1)
    grad_modes = []

    def model(x: Tensor) -> Tensor:
        grad_modes.append(torch.is_grad_enabled())
        return network(x)

    outcomes = run(Square(queries=25), model, images, labels, eps=1e-3, slots=4, judge=network)
    assert [(outcome.forwards, outcome.backwards) for outcome in outcomes if not outcome.fooled] == [(25, 0)] * 4
    assert not any(grad_modes)


def test_the_first_query_is_stripes_of_eps():
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return torch.stack([x.flatten(1).sum(1) * 0 + 1, x.flatten(1).sum(1) * 0], 1)

    grey = torch.full((3, 3, 6, 6), 0.5)
    run(Square(queries=2), model, grey, torch.zeros(3, dtype=torch.long), eps=0.1, slots=3)
    stripes = seen[1] - 0.5
    torch.testing.assert_close(stripes.abs(), torch.full_like(stripes, 0.1))
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))  # each column of one colour
    assert not torch.equal(stripes[0], stripes[1])


def test_every_query_changes_one_square_of_what_was_kept_and_squares_shrink():
    # A model whose margin never changes keeps the stripes.
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return torch.stack([x.flatten(1).sum(1) * 0 + 1, x.flatten(1).sum(1) * 0], 1)

    grey = torch.full((1, 1, 16, 16), 0.5)
    run(Square(queries=2000), model, grey, torch.zeros(1, dtype=torch.long), eps=0.1, slots=1)
    sides = []
    for query in seen[2:2000]:
        changed = (query - seen[1])[0, 0].abs() > 0.05
        if changed.any():
            rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
            sides.append(int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1)
            assert torch.allclose((query - 0.5).abs(), torch.full_like(query, 0.1))
    assert max(sides[:3]) > 10
    assert max(sides[-100:]) == 1
    assert all(max(sides[i : i + 200]) >= max(sides[i + 200 : i + 400]) for i in range(0, 1000, 200))


def test_the_share_of_the_first_square_and_its_halvings_are_the_papers():
    # p is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries.
    attack = Square(queries=10_000)
    halved = {t: 2.0**-i for i, t in enumerate((0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001))}
    for t, share in halved.items():
        assert attack._side(t, 32, 32) == max(1, round((0.8 * share * 1024) ** 0.5))
        if t:
            assert attack._side(t - 1, 32, 32) == max(1, round((0.8 * 2 * share * 1024) ** 0.5))


def test_fewer_queries_shrink_squares_as_much_faster():
    long, short = Square(queries=10_000), Square(queries=100)
    assert [short._side(t, 32, 32) for t in range(100)] == [long._side(100 * t, 32, 32) for t in range(100)]


def test_what_is_kept_only_ever_gets_better():
    model, images = Opposites(), greys(3)
    labels, eps = model.labels(images), 1e-3
    margins = []
    for queries in (5, 50, 400):
        # The schedule depends on the number of queries, so the longer search is not the shorter one's continuation.
        outcomes = run(Square(queries=queries), model, images, labels, eps=eps, slots=3, early=False)
        margins.append(torch.tensor([outcome.margin for outcome in outcomes]))
    assert bool((margins[2] > margins[0]).all())


@pytest.mark.parametrize("attack", [Square(), SquareL2()])
def test_what_is_foreseen_comes_if_the_answer_brings_nothing(attack):
    clean, network = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), small()
    label = network(clean).argmax(1)
    rows = {"clean": clean, "label": label, "target": torch.full_like(label, -1), "t": torch.zeros_like(label)}
    rows["eps"] = torch.full((6, 1, 1, 1), 0.05)
    attack.begin(rows, [Key(0, sample, 0) for sample in range(6)])
    kept = []
    for _ in range(40):
        seen, later = attack.query(network, rows), dict(rows)
        foreseen, same = attack.foreseen(rows), ~attack.brings(rows, seen)
        attack.advance(later, seen)
        later["t"] = later["t"] + 1
        assert all(torch.equal(later[key][same], foreseen[key][same]) for key in later)
        kept.append(same)
        rows = later
    assert 0 < int(torch.stack(kept).sum()) < 240


def test_the_image_that_comes_out_is_the_best_and_not_the_last_proposal():
    model = Opposites()
    images, proposals = far(model, 6), []

    def watched(x: Tensor) -> Tensor:
        proposals.append(model.score(x).detach().abs())
        return model(x)

    outcomes = run(Square(queries=80), watched, images, model.labels(images), eps=1e-3, slots=6, judge=model)
    assert not any(outcome.fooled for outcome in outcomes)
    best = torch.stack(proposals).amin(0).sort().values  # the score falls towards the boundary
    scores = model.score(torch.stack([outcome.image for outcome in outcomes])).abs()
    torch.testing.assert_close(scores.sort().values, best)


@pytest.fixture
def linear() -> nn.Sequential:
    """Return a linear classifier of two classes; greys of 8 x 8 pixels have label 0, by a margin of 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    weight = torch.rand(192, generator=torch.Generator().manual_seed(0)) - 0.5
    model[1].weight.data = torch.stack([0 * weight, weight])
    model[1].bias.data = torch.tensor([1.0, -0.5 * float(weight.sum())])
    return model.eval().requires_grad_(False)


def search(model: nn.Module, share: float, count: int, **options: Any) -> list[Outcome]:
    """Attack greys with such a share of the budget at which no perturbation can fool the model, in 2,000 queries."""
    eps = share / float(model[1].weight[1].abs().sum())
    grey, labels = torch.full((count, 3, 8, 8), 0.5), torch.zeros(count, dtype=torch.long)
    trial = options.pop("trial", None)
    return run(Square(queries=2000, trial=trial), model, grey, labels, eps=eps, slots=8, **options)


def test_a_search_that_is_on_its_way_goes_on_after_its_trial_and_ends_as_without_one(linear):
    without, with_trial = (search(linear, 1.8, 12, trial=trial) for trial in (None, 20))
    assert all(outcome.fooled for outcome in without)
    assert sum(outcome.step > 20 for outcome in without) > 6
    assert [(outcome.fooled, outcome.step) for outcome in with_trial] == [(True, outcome.step) for outcome in without]


def test_a_search_that_cannot_arrive_is_given_up(linear):
    # By the closed form no perturbation goes further than a third of the way. A tenth of the queries has to show it.
    outcomes = search(linear, 1 / 3, 12, trial=20)
    assert not any(outcome.fooled for outcome in outcomes)
    assert all(200 <= outcome.forwards < 400 for outcome in outcomes)
    assert {outcome.forwards for outcome in search(linear, 1 / 3, 2)} == {2000}


def test_a_search_ends_with_its_trial_where_gradients_came_nearer(linear):
    # Margins are negative while the label wins: the first half is behind at once, the others have nothing before them.
    reached = torch.tensor([-1e-6] * 6 + [-torch.inf] * 6)
    outcomes = search(linear, 1.8, 12, trial=20, reached=reached)
    alone = search(linear, 1.8, 12)
    for index, (outcome, other) in enumerate(zip(outcomes, alone, strict=True)):
        if index < 6 and other.step > 20:
            assert (outcome.fooled, outcome.forwards) == (False, 20)
        else:
            assert (outcome.fooled, outcome.step) == (True, other.step)
    assert Square(queries=2000, trial=20).usual_cost(2).forwards == 20


def test_margins_reached_are_a_number_for_each_image(linear):
    with pytest.raises(AttackError, match=re.escape("expected reached of shape (2,), got (3,)")):
        search(linear, 1.0, 2, reached=torch.zeros(3))
