"""The FSP distance of each cell against the gap of clean and robust accuracy (paper, section 3.5, figures 7 and 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.statistics import LEVEL, Interval, IntervalEstimate
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Correlation, Floats, at_least, spearman
from robnet_zoo.search.analysis.figure5 import given
from robnet_zoo.search.analysis.observations import Observation

RESAMPLES = 1000


class Fsp(Document):
    """The correlation of FSP distances (equation 4) with the gap clean - robust accuracy, both before finetuning.

    Args:
        n: how many candidates there are.
        cells: the rank correlation at each depth; None if the distance does not vary.
        last: how many cells count as deeper.
        deep: the rank correlation of the mean distance of the deeper cells.
        given_clean: the same at equal clean accuracy, since a network that answers by chance has no gap; None if it
            cannot be estimated.
        trend: the rank correlation of depth and `cells`, with the percentile interval of a bootstrap over candidates;
            None for fewer than 3 cells that vary.
    """

    n: int
    cells: Tuple[Correlation | None]
    last: int
    deep: Correlation
    given_clean: Correlation | None = None
    trend: IntervalEstimate | None = None

    @property
    def positive(self) -> tuple[int, int]:
        """Return how many of the deeper cells have an interval above 0, and how many of the others."""
        above = [cell is not None and cell.interval.low > 0 for cell in self.cells]
        return sum(above[-self.last :]), sum(above[: -self.last])


def deeper(depth: int) -> int:
    """Return how many cells count as deeper: the latter half, rounded up, as the paper's 10 of 20 (appendix F)."""
    return -(-depth // 2)


def fsp_observations(observations: Sequence[Observation]) -> list[Observation]:
    """Return the observations whose FSP distances were measured."""
    return [each for each in observations if each.candidate.fsp and each.candidate.before is not None]


def fsp(observations: Sequence[Observation], *, last: int | None = None, seed: int = 0) -> Fsp:
    """Return figures 7 and 8.

    Args:
        observations: those without FSP distances are ignored.
        last: how many cells count as deeper; by default as many as `deeper` says.
        seed: of the bootstrap.

    Raises: SearchError for fewer than 4 candidates with FSP distances, for candidates of different depths, and if the
    mean distance or the gap does not vary.
    """
    measured = fsp_observations(observations)
    at_least(4, len(measured), what="candidates with FSP distances")
    depths = {len(observation.candidate.fsp) for observation in measured}
    if len(depths) > 1:
        raise SearchError(f"expected FSP distances of equally many cells, got {', '.join(map(str, sorted(depths)))}")
    (depth,) = depths
    last = deeper(depth) if last is None else last
    if not 1 <= last <= depth:
        raise SearchError(f"expected 1 to {depth} deeper cells, got {last}")
    distances = np.array([observation.candidate.fsp for observation in measured])  # (n, depth)
    gaps = np.array([observation.before.gap for observation in measured])
    deep = distances[:, -last:].mean(axis=1)
    return Fsp(
        n=len(measured),
        cells=tuple(_cell(distances[:, cell], gaps) for cell in range(depth)),
        last=last,
        deep=spearman(deep, gaps),
        given_clean=given(deep.tolist(), gaps.tolist(), [observation.before.clean for observation in measured]),
        trend=_trend(distances, gaps, np.random.default_rng(seed)),
    )


def _cell(distances: Floats, gaps: Floats) -> Correlation | None:
    try:
        return spearman(distances, gaps)
    except SearchError:
        return None


def _trend(distances: Floats, gaps: Floats, generator: np.random.Generator) -> IntervalEstimate | None:
    varied = np.flatnonzero(np.ptp(distances, axis=0) > 0)
    if len(varied) < 3:
        return None
    together = np.column_stack([distances[:, varied], gaps])
    n = len(together)
    drawn = [_slope(varied, together[generator.integers(n, size=n)]) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    value = _slope(varied, together)
    interval = Interval(min(value, float(low)), max(value, float(high)))
    return IntervalEstimate(value=value, interval=interval, n=n)


def _slope(depths: npt.NDArray[np.int64], together: Floats) -> float:
    """Return the rank correlation of depth with each column's rank correlation to the last column; 0 if none varies."""
    ranks = stats.rankdata(together, axis=0)
    ranks -= ranks.mean(axis=0)
    norms = np.sqrt((ranks**2).sum(axis=0))
    correlations = (ranks[:, :-1].T @ ranks[:, -1]) / np.maximum(norms[:-1] * norms[-1], 1e-12)
    return float(stats.spearmanr(depths, correlations).statistic) if np.ptp(correlations) > 0 else 0.0
