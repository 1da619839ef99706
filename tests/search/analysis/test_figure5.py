"""Figure 5: density is correlated with robust accuracy, also at equal numbers of convolutions."""

from __future__ import annotations

import pytest
from scipy import stats

from robnet_zoo.search.analysis import (
    density,
)
from tests.search.studies import by_convs, by_density, made, observe, study


def test_density_is_correlated_as_scipy_does_it():
    result = study(made(by_density(1)), n=60)
    figure = density(observe(result))
    dense = [result.spec(candidate).density for candidate in result.candidates]
    robust = [candidate.after.robust for candidate in result.candidates]
    assert figure.spearman.value == pytest.approx(stats.spearmanr(dense, robust).statistic)
    assert figure.kendall.value == pytest.approx(stats.kendalltau(dense, robust).statistic)


def test_density_that_works_by_convolutions_alone_goes_at_equal_numbers_of_them():
    figure = density(observe(study(made(by_convs(0.02, 0.02, noise=0.02)), n=300)))
    assert figure.spearman.interval.low > 0
    assert figure.given_convs.interval.low < 0 < figure.given_convs.interval.high
