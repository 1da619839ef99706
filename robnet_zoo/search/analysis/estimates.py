"""Estimates with 95 % intervals: means, rank correlations, least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from robnet_zoo.core.statistics import LEVEL, Interval, IntervalEstimate
from robnet_zoo.errors import SearchError, StatisticsError

NORMAL = float(stats.norm.ppf(0.5 + LEVEL / 2))
Floats = npt.NDArray[np.float64]
Values = Sequence[float] | Floats


class Correlation(IntervalEstimate):
    """A rank correlation. p: the probability of one as large, of either sign, if x and y are unrelated."""

    p: float


def mean(values: Values) -> IntervalEstimate:
    """Return the mean with Student's interval. Raises SearchError for fewer than 2 values."""
    n = len(values)
    at_least(2, n)
    middle, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return IntervalEstimate(value=middle, interval=Interval(middle - reach, middle + reach), n=n)


def spearman(x: Values, y: Values) -> Correlation:
    """Return Spearman's rank correlation.

    The interval is Fisher's, with the standard error sqrt((1 + r^2/2) / (n - 3)) of Bonett and Wright (2000); p is
    that of Student's t. Raises SearchError for fewer than 4 pairs, and if one of the two does not vary.
    """
    n = _pairs(x, y, least=4)
    test = stats.spearmanr(x, y)
    r = float(test.statistic)
    interval = _fisher(r, math.sqrt((1 + r * r / 2) / (n - 3)), largest=1 - 12 / (n**3 - n))
    return Correlation(value=r, interval=interval, n=n, p=float(test.pvalue))


def kendall(x: Values, y: Values) -> Correlation:
    """Return Kendall's rank correlation, tau-b.

    The interval is Fisher's, with the standard error sqrt(0.437 / (n - 4)) (Fieller, Hartley and Pearson, 1957).
    Raises SearchError for fewer than 5 pairs, and if one of the two does not vary.
    """
    n = _pairs(x, y, least=5)
    test = stats.kendalltau(x, y)
    r = float(test.statistic)
    interval = _fisher(r, math.sqrt(0.437 / (n - 4)), largest=1 - 4 / (n * n - n))
    return Correlation(value=r, interval=interval, n=n, p=float(test.pvalue))


def partial_spearman(x: Values, y: Values, given: Values) -> Correlation:
    """Return the rank correlation of x and y at equal `given`: the partial correlation of ranks (Kendall, 1942).

    The interval is that of `spearman` for one observation less.

    Args:
        x: (n,).
        y: (n,).
        given: (n,), what is held equal.

    Raises: SearchError for fewer than 5 observations, if one of the three does not vary, and if x or y has the order of
        `given`.
    """
    n = _pairs(x, y, least=5)
    xy, xz, yz = spearman(x, y).value, spearman(x, given).value, spearman(y, given).value
    left = (1 - xz * xz) * (1 - yz * yz)
    if left < 1e-9:
        raise SearchError("expected values that vary beside what they are compared at, got the same order")
    r = max(-1.0, min(1.0, (xy - xz * yz) / math.sqrt(left)))
    interval = _fisher(r, math.sqrt((1 + r * r / 2) / (n - 4)), largest=1 - 12 / (n**3 - n))
    t = r * math.sqrt((n - 3) / max(1 - r * r, 1e-12))
    return Correlation(value=r, interval=interval, n=n, p=float(2 * stats.t.sf(abs(t), n - 3)))


class Fit:
    """Least squares of y, (n,), on a constant and the columns of x, (n, k).

    `coefficients`, (1 + k,), begin with the constant's. `covariance`, (1 + k, 1 + k), is HC3 (MacKinnon and White,
    1985), since accuracies scatter more where they are low. `explained` is the share of the variance. Raises
    SearchError for fewer than k + 3 observations, for columns that are combinations of others, and if a coefficient
    depends on a single observation.
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        design = np.column_stack([np.ones(len(x)), x])  # (n, 1 + k)
        self.n = len(design)
        at_least(design.shape[1] + 2, self.n)
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise SearchError("expected counts that vary apart from each other, got one that follows from the others")
        inverse = np.linalg.inv(design.T @ design)
        self.coefficients = inverse @ design.T @ y
        residuals = y - design @ self.coefficients
        left = 1 - np.einsum("ij,jk,ik->i", design, inverse, design)  # 1 - leverage
        if left.min() < 1e-9:
            raise SearchError("expected several candidates with each count, got a count that one alone has")
        self.covariance = inverse @ (design.T * (residuals / left) ** 2) @ design @ inverse
        total = float(((y - y.mean()) ** 2).sum())
        self.explained = 1 - float((residuals**2).sum()) / total if total else 0.0

    def combination(self, weights: Values) -> IntervalEstimate:
        """Return a weighted sum of the coefficients, the constant's first, with Student's interval."""
        w = np.asarray(weights, dtype=np.float64)
        value, error = float(w @ self.coefficients), math.sqrt(max(float(w @ self.covariance @ w), 0.0))
        reach = float(stats.t.ppf(0.5 + LEVEL / 2, self.n - len(w))) * error
        return IntervalEstimate(value=value, interval=Interval(value - reach, value + reach), n=self.n)


def at_least(least: int, n: int, *, what: str = "candidates") -> None:
    """Raise SearchError for fewer than `least`.

    Args:
        least: the smallest number that suffices.
        n: how many there are.
        what: what the message calls them.
    """
    if n < least:
        raise SearchError(f"expected {least} or more {what}, got {n}")


def _pairs(x: Values, y: Values, *, least: int) -> int:
    """Return how many pairs there are, or raise for too few and for values that do not vary."""
    if len(x) != len(y):
        raise StatisticsError(f"expected pairs, got {len(x)} and {len(y)} values")
    at_least(least, len(x))
    if len(set(x)) < 2 or len(set(y)) < 2:
        raise SearchError(f"expected values that differ, got the same one of all {len(x)} candidates")
    return len(x)


def _fisher(r: float, error: float, *, largest: float) -> Interval:
    """Return Fisher's interval of a correlation r.

    largest: the largest correlation below a perfect one, which gets the interval of this one, extended to its end.
    """
    z = math.atanh(max(-largest, min(largest, r)))
    return Interval(min(r, math.tanh(z - NORMAL * error)), max(r, math.tanh(z + NORMAL * error)))
