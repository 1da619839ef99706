"""Figure 6: the worth of convolutions that was planted is estimated, budget by budget."""

from __future__ import annotations

from robnet_zoo.search.analysis import (
    budgets,
    convolutions,
)
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import by_convs, made, observe, study


def test_planted_worth_of_convolutions_lies_in_the_intervals():
    figure = convolutions(observe(study(made(by_convs(0.02, 0.01)), n=200)))
    assert figure.direct.interval.low < 0.02 < figure.direct.interval.high
    assert figure.skip.interval.low < 0.01 < figure.skip.interval.high
    assert figure.difference.interval.low < 0.01 < figure.difference.interval.high
    assert figure.difference.interval.low > 0
    assert sum(row.n for row in figure.at["direct"]) == 200
    assert [row.count for row in figure.at["direct"]] == [0, 1, 2, 3, 4]
    assert figure.correlation.interval.low > 0


def test_budgets_are_the_specs_own_and_a_group_of_one_budget_fills_it():
    groups = [CandidateGroup(name="large", count=30, sampling=Sampling(budget="large"))]
    figure = budgets(observe(study(made(by_convs(0.02, 0.01)), groups=groups)))
    assert [(row.budget, row.n) for row in figure.budgets] == [("small", 0), ("medium", 0), ("large", 30)]
    assert figure.at("small").correlation is None
    assert figure.at("large").robust.n == 30
