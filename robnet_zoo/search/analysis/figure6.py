"""Convolutions on direct and on skip edges (paper, section 3.4 and figure 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, get_args

import numpy as np

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Budget
from robnet_zoo.search.analysis.estimates import Correlation, Fit, at_least, mean, spearman
from robnet_zoo.search.analysis.figure5 import given
from robnet_zoo.search.analysis.observations import Observation, finetuned

Where = Literal["all", "direct", "skip"]
COUNTS: dict[Where, Callable[[Observation], float]] = {
    "all": lambda observation: observation.convs,
    "direct": lambda observation: observation.direct,
    "skip": lambda observation: observation.skip,
}


class AtCount(Document):
    """The mean robust accuracy of the n candidates with `count` convolutions per cell, rounded.

    A single candidate has no interval.
    """

    count: int
    n: int
    mean: float
    interval: Interval | None = None


class Convolutions(Document):
    """Robust accuracy after finetuning by the number of convolutions per cell (figure 6a).

    Args:
        at: its means by the number on all, on direct and on skip edges.
        correlation: with the number on all edges.
        direct, skip: what one more convolution on such an edge adds, as a share of 1, by least squares on both numbers.
        difference: direct - skip.
        explained: the fit's share of the variance.
    """

    at: dict[Where, Tuple[AtCount]]
    correlation: Correlation
    direct: IntervalEstimate
    skip: IntervalEstimate
    difference: IntervalEstimate
    explained: float


class AtBudget(Document):
    """The candidates of a budget (figure 6b). What cannot be estimated is None.

    Args:
        budget: small, medium or large.
        n: how many finetuned candidates it has.
        robust: the mean of their robust accuracies.
        correlation: of robust accuracy with the share of convolutions that are on direct edges.
        given_convs: the same at equal numbers of convolutions.
    """

    budget: Budget
    n: int
    robust: IntervalEstimate | None = None
    correlation: Correlation | None = None
    given_convs: Correlation | None = None


class Budgets(Document):
    """Figure 6b: small, medium, large."""

    budgets: Tuple[AtBudget]

    def at(self, budget: Budget) -> AtBudget:
        """Return the candidates of a budget."""
        return next(candidates for candidates in self.budgets if candidates.budget == budget)


def convolutions(observations: Sequence[Observation]) -> Convolutions:
    """Return figure 6a.

    Raises SearchError for fewer than 5 finetuned candidates, and if one of the numbers or robust accuracy does not
    vary.
    """
    done = finetuned(observations)
    at_least(5, len(done), what="finetuned candidates")
    robust = np.array([observation.robust for observation in done])
    fit = Fit(np.array([(observation.direct, observation.skip) for observation in done]), robust)
    return Convolutions(
        at={where: _at(done, count) for where, count in COUNTS.items()},
        correlation=spearman([observation.convs for observation in done], robust),
        direct=fit.combination([0, 1, 0]),
        skip=fit.combination([0, 0, 1]),
        difference=fit.combination([0, 1, -1]),
        explained=fit.explained,
    )


def _at(done: Sequence[Observation], count: Callable[[Observation], float]) -> tuple[AtCount, ...]:
    groups: dict[int, list[float]] = {}
    for observation in done:
        groups.setdefault(round(count(observation)), []).append(observation.robust)
    rows = []
    for number, robust in sorted(groups.items()):
        estimate = mean(robust) if len(robust) > 1 else None
        interval = estimate.interval if estimate else None
        rows.append(AtCount(count=number, n=len(robust), mean=float(np.mean(robust)), interval=interval))
    return tuple(rows)


def budgets(observations: Sequence[Observation]) -> Budgets:
    """Return figure 6b, by `Genotype.budget`: small is at most 7 convolutions per cell, medium 8 to 10, large more.

    Candidates without a convolution have no share and are left out. Raises SearchError without a finetuned candidate.
    """
    done = [observation for observation in finetuned(observations) if observation.share is not None]
    at_least(1, len(done), what="finetuned candidates")
    return Budgets(budgets=tuple(_at_budget(name, done) for name in get_args(Budget)))


def _at_budget(budget: Budget, candidates: Sequence[Observation]) -> AtBudget:
    done = [observation for observation in candidates if observation.budget == budget]
    shares, robust = [observation.share or 0.0 for observation in done], [observation.robust for observation in done]
    correlation = None
    with suppress(SearchError):
        correlation = spearman(shares, robust)
    return AtBudget(
        budget=budget,
        n=len(done),
        robust=mean(robust) if len(done) > 1 else None,
        correlation=correlation,
        given_convs=given(shares, robust, [observation.convs for observation in done]),
    )
