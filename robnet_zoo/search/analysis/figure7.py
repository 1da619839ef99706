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
    """How FSP distances (equation 4) go with clean - robust accuracy, both before finetuning.

    cells: the rank correlation at each depth; none where the distance does not vary. last: how many cells the deeper
    ones are. deep: of the mean distance of those; given_clean: the same at equal clean accuracy, as a network that
    answers by chance has no gap; none where that cannot be told. trend: the rank correlation of depth and `cells`, with
    the percentile interval of a bootstrap over candidates; none for fewer than 3 cells that vary.
    """

    n: int
    cells: Tuple[Correlation | None]
    last: int
    deep: Correlation
    given_clean: Correlation | None = None
    trend: IntervalEstimate | None = None

    @property
    def positive(self) -> tuple[int, int]:
        """Of how many of the deeper cells the interval is above 0, and of how many of the others."""
        above = [cell is not None and cell.interval.low > 0 for cell in self.cells]
        return sum(above[-self.last :]), sum(above[: -self.last])


def fsp_observations(observations: Sequence[Observation]) -> list[Observation]:
    """Those whose distances were measured."""
    return [one for one in observations if one.candidate.fsp and one.candidate.before is not None]


def fsp(observations: Sequence[Observation], *, last: int | None = None, seed: int = 0) -> Fsp:
    """Figures 7 and 8.

    last: how many cells the deeper ones are; by default the latter half, rounded up, as the paper's 10 of 20 (appendix
    F). Raises SearchError for fewer than 4 candidates with FSP distances, for candidates of different depths, and where
    the mean distance or the gap does not vary.
    """
    measured = fsp_observations(observations)
    at_least(4, len(measured), of="candidates with FSP distances")
    depths = {len(one.candidate.fsp) for one in measured}
    if len(depths) > 1:
        raise SearchError(f"expected FSP distances of equally many cells, got {', '.join(map(str, sorted(depths)))}")
    (depth,) = depths
    last = -(-depth // 2) if last is None else last
    if not 1 <= last <= depth:
        raise SearchError(f"expected 1 to {depth} deeper cells, got {last}")
    distances = np.array([one.candidate.fsp for one in measured])  # (n, depth)
    gaps = np.array([one.before.gap for one in measured])
    deep = distances[:, -last:].mean(axis=1)
    return Fsp(
        n=len(measured),
        cells=tuple(_cell(distances[:, cell], gaps) for cell in range(depth)),
        last=last,
        deep=spearman(deep, gaps),
        given_clean=given(deep.tolist(), gaps.tolist(), [one.before.clean for one in measured]),
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
    """The rank correlation of depth and of each column's rank correlation with the last column; 0 where none varies."""
    ranks = stats.rankdata(together, axis=0)
    ranks -= ranks.mean(axis=0)
    norms = np.sqrt((ranks**2).sum(axis=0))
    found = (ranks[:, :-1].T @ ranks[:, -1]) / np.maximum(norms[:-1] * norms[-1], 1e-12)
    return float(stats.spearmanr(depths, found).statistic) if np.ptp(found) > 0 else 0.0
