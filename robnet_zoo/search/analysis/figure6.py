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
    "all": lambda one: one.convs,
    "direct": lambda one: one.direct,
    "skip": lambda one: one.skip,
}


class AtCount(Document):
    """Robust accuracy of the n candidates with `count` convolutions a cell, rounded; no interval from one alone."""

    count: int
    n: int
    mean: float
    interval: Interval | None = None


class Convolutions(Document):
    """Robust accuracy after finetuning by the number of convolutions a cell (figure 6a).

    at: its means on all, on direct, and on skip edges. direct, skip: what a convolution more on such an edge adds to
    it, as a share of 1, by least squares on both numbers; difference: direct - skip. explained: the fit's share of the
    variance.
    """

    at: dict[Where, Tuple[AtCount]]
    correlation: Correlation
    direct: IntervalEstimate
    skip: IntervalEstimate
    difference: IntervalEstimate
    explained: float


class AtBudget(Document):
    """One budget's candidates (figure 6b).

    n: finetuned candidates. robust: the mean of their robust accuracies. correlation: with the share of their
    convolutions that are on direct edges; given_convs: at equal numbers of convolutions. None where it cannot be told.
    """

    budget: Budget
    n: int
    robust: IntervalEstimate | None = None
    correlation: Correlation | None = None
    given_convs: Correlation | None = None


class Budgets(Document):
    """Figure 6b: small, medium, large."""

    budgets: Tuple[AtBudget]

    def of(self, budget: Budget) -> AtBudget:
        """One of them."""
        return next(one for one in self.budgets if one.budget == budget)


def convolutions(observations: Sequence[Observation]) -> Convolutions:
    """Figure 6a.

    Raises SearchError for fewer than 5 finetuned candidates, and where one of the numbers or robust accuracy does not
    vary.
    """
    done = finetuned(observations)
    at_least(5, len(done), of="finetuned candidates")
    robust = np.array([one.robust for one in done])
    fit = Fit(np.array([(one.direct, one.skip) for one in done]), robust)
    return Convolutions(
        at={where: _at(done, count) for where, count in COUNTS.items()},
        correlation=spearman([one.convs for one in done], robust),
        direct=fit.combination([0, 1, 0]),
        skip=fit.combination([0, 0, 1]),
        difference=fit.combination([0, 1, -1]),
        explained=fit.explained,
    )


def _at(done: Sequence[Observation], count: Callable[[Observation], float]) -> tuple[AtCount, ...]:
    groups: dict[int, list[float]] = {}
    for one in done:
        groups.setdefault(round(count(one)), []).append(one.robust)
    found = []
    for number, robust in sorted(groups.items()):
        estimate = mean(robust) if len(robust) > 1 else None
        interval = estimate.interval if estimate else None
        found.append(AtCount(count=number, n=len(robust), mean=float(np.mean(robust)), interval=interval))
    return tuple(found)


def budgets(observations: Sequence[Observation]) -> Budgets:
    """Figure 6b: by `Genotype.budget`, small at most 7 convolutions a cell, medium to 10, large above.

    Raises SearchError without a finetuned candidate; what too few of one budget cannot tell is none. Candidates without
    a convolution have no share and are left out.
    """
    done = [one for one in finetuned(observations) if one.share is not None]
    at_least(1, len(done), of="finetuned candidates")
    return Budgets(budgets=tuple(_of(name, [one for one in done if one.budget == name]) for name in get_args(Budget)))


def _of(budget: Budget, done: Sequence[Observation]) -> AtBudget:
    shares, robust = [one.share or 0.0 for one in done], [one.robust for one in done]
    correlation = None
    with suppress(SearchError):
        correlation = spearman(shares, robust)
    return AtBudget(
        budget=budget,
        n=len(done),
        robust=mean(robust) if len(done) > 1 else None,
        correlation=correlation,
        given_convs=given(shares, robust, [one.convs for one in done]),
    )
