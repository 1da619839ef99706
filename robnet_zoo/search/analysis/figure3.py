"""The gain by finetuning and the distribution of robust accuracy (paper, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.statistics import IntervalEstimate, proportion
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Correlation, at_least, mean, spearman
from robnet_zoo.search.analysis.observations import Observation, finetuned

BINS = 20


class Finetuning(Document):
    """Robust accuracy before and after finetuning (figure 3a), as shares of 1.

    Args:
        before, after: the means over candidates.
        improvement: the mean of after - before.
        improved: the share of candidates whose improvement is above 0.
        order: the rank correlation of before and after; None if one of the two does not vary.
    """

    before: IntervalEstimate
    after: IntervalEstimate
    improvement: IntervalEstimate
    improved: IntervalEstimate
    order: Correlation | None = None


class Histogram(Document):
    """Robust accuracy after finetuning (figure 3b), as shares of 1.

    Args:
        edges: of the bins, one more than counts.
        counts: of candidates in each bin.
        mean, median, deviation: over candidates.
        noise: the deviation that drawing other held-out images would give a single candidate, sqrt(a (1 - a) / images),
            averaged over candidates. All candidates see the same images, so the noise between two of them is less.
    """

    edges: Tuple[float]
    counts: Tuple[int]
    mean: IntervalEstimate
    median: float
    deviation: float
    noise: float


def finetuning(observations: Sequence[Observation]) -> Finetuning:
    """Return figure 3a. Raises SearchError for fewer than 2 finetuned candidates."""
    done = [observation for observation in finetuned(observations) if observation.candidate.before is not None]
    at_least(2, len(done), what="finetuned candidates")
    before, after = [observation.before.robust for observation in done], [observation.robust for observation in done]
    gains = [b - a for a, b in zip(before, after, strict=True)]
    order = None
    with suppress(SearchError):
        order = spearman(before, after)
    return Finetuning(
        before=mean(before),
        after=mean(after),
        improvement=mean(gains),
        improved=proportion(sum(gain > 0 for gain in gains), len(gains)),
        order=order,
    )


def histogram(observations: Sequence[Observation], *, images: int) -> Histogram:
    """Return figure 3b.

    images: how many held-out images measured a candidate. Raises SearchError for fewer than 2 finetuned candidates.
    """
    robust = np.array([observation.robust for observation in finetuned(observations)])
    at_least(2, len(robust), what="finetuned candidates")
    average = mean(robust)
    counts, edges = np.histogram(robust, bins=BINS)
    noise = float(np.mean([math.sqrt(a * (1 - a) / images) for a in robust.tolist()]))
    return Histogram(
        edges=edges.tolist(),
        counts=counts.tolist(),
        mean=average,
        median=float(np.median(robust)),
        deviation=float(np.std(robust, ddof=1)),
        noise=noise,
    )
