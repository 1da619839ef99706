"""Estimates agree with closed forms and published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Fit, kendall, mean, partial_spearman, spearman


def test_spearmans_interval_is_the_published_one():
    # Example of ci.spear in statpsych, the R package of D. G. Bonett, after Bonett and Wright (2000).
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    estimate = spearman(x, y)
    assert (estimate.value, *estimate.interval) == pytest.approx((0.8699639, 0.5840951, 0.9638297), abs=5e-8)
    assert (estimate.n, estimate.p) == (15, pytest.approx(stats.spearmanr(x, y).pvalue))


def test_spearmans_interval_covers_the_true_correlation_as_often_as_it_says():
    # Of a bivariate normal with correlation r, Spearman's is 6/pi asin(r/2) (Pearson, 1907).
    generator = np.random.default_rng(0)
    true = 6 / math.pi * math.asin(0.6 / 2)
    covered = 0
    for _ in range(500):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=60).T
        estimate = spearman(x, y)
        covered += estimate.interval.low <= true <= estimate.interval.high
    assert stats.binomtest(covered, 500, 0.95).pvalue > 0.01


def test_perfect_order_has_an_interval_with_more_than_one_point():
    up, down = spearman(range(10), range(10)), spearman(range(10), range(0, -10, -1))
    assert (up.value, up.interval.high) == pytest.approx((1, 1))
    assert 0.5 < up.interval.low < 0.99
    assert (down.interval.low, down.interval.high) == pytest.approx((-1, -up.interval.low))


def test_kendalls_interval_is_the_closed_form():
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    tau = 9 / 15  # 12 of 15 pairs in order
    reach = 1.959964 * math.sqrt(0.437 / 2)
    assert kendall(x, y).value == pytest.approx(tau)
    assert kendall(x, y).interval.low == pytest.approx(math.tanh(math.atanh(tau) - reach), abs=1e-6)


def test_partial_correlation_is_that_of_the_residuals_of_ranks():
    generator = np.random.default_rng(1)
    z = generator.normal(size=80)
    x, y = z + generator.normal(size=80), z + generator.normal(size=80)
    ranks = [stats.rankdata(values) for values in (x, y, z)]
    left = [values - np.polyval(np.polyfit(ranks[2], values, 1), ranks[2]) for values in ranks[:2]]
    estimate = partial_spearman(x, y, z)
    assert estimate.value == pytest.approx(stats.pearsonr(*left).statistic)
    assert spearman(x, y).interval.low > 0
    assert estimate.interval.low < 0 < estimate.interval.high  # x and y correlate through z alone


def test_means_have_the_textbook_interval():
    values = [0.1, 0.4, 0.2, 0.5, 0.3]
    low, high = stats.t.interval(0.95, 4, loc=0.3, scale=stats.sem(values))
    estimate = mean(values)
    assert (estimate.value, *estimate.interval, estimate.n) == pytest.approx((0.3, low, high, 5))


def test_covariance_of_least_squares_is_that_of_leaving_each_one_out():
    # HC3 is the sum of squared changes of the coefficients as each observation is left out in turn.
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(12, 2)), generator.normal(size=12)
    design = np.column_stack([np.ones(12), x])
    whole = np.linalg.lstsq(design, y)[0]
    changes = [np.linalg.lstsq(np.delete(design, i, 0), np.delete(y, i))[0] - whole for i in range(12)]
    fit = Fit(x, y)
    assert np.allclose(fit.coefficients, whole)
    assert np.allclose(fit.covariance, np.array(changes).T @ np.array(changes))
    reach = stats.t.ppf(0.975, 9) * math.sqrt(fit.covariance[1, 1])
    assert fit.combination([0, 1, 0]).interval.high == pytest.approx(whole[1] + reach)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spearman([1, 2, 3], [1, 2, 3]), "expected 4 or more candidates, got 3"),
        (lambda: spearman([1, 1, 1, 1], [1, 2, 3, 4]), "got the same one of all 4 candidates"),
        (lambda: kendall([1, 2, 3, 4], [1, 2, 3, 4]), "expected 5 or more candidates, got 4"),
        (lambda: partial_spearman(range(9), range(9), range(9)), "got the same order"),
        (lambda: mean([1.0]), "expected 2 or more candidates, got 1"),
        (lambda: Fit(np.ones((9, 2)), np.arange(9.0)), "one that follows from the others"),
        (lambda: Fit(np.eye(9)[:, :1], np.arange(9.0)), "a count that one alone has"),
    ],
)
def test_what_cannot_be_estimated_is_refused(call, message):
    with pytest.raises(SearchError, match=message):
        call()
