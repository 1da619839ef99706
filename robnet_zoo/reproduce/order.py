"""Whether the paper's order of models holds in what was measured, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from robnet_zoo.core.statistics import LEVEL, Interval, IntervalEstimate, Verdict, proportion, together
from robnet_zoo.reproduce.result import Measured, Trained

Outcomes = npt.NDArray[np.float64]  # (seeds, images) of 0 or 1


@dataclass(frozen=True)
class Pair:
    """Two rows of which the paper puts the first above the second; difference: first minus second, here.

    trainings: of the row that has fewer.
    """

    first: str
    second: str
    printed: float
    difference: IntervalEstimate
    trainings: int

    @property
    def verdict(self) -> Verdict:
        """Whether the paper's order of the two rows holds: `Interval.verdict` of their difference.

        It is undecided where a row was trained only once, since the interval then covers the choice of images alone.
        """
        return "undecided" if self.trainings < 2 else self.difference.interval.verdict


def outcomes(models: Sequence[Trained], attack: str) -> Outcomes | None:
    """(seeds, images) of the trainings of one row, if all of them were attacked so."""
    found = [each.of(attack) for each in models]
    return np.array([each.bits for each in found if each], dtype=float) if found and all(found) else None


def accuracy(of: Outcomes) -> IntervalEstimate:
    """The mean over trainings and images.

    With one training, Wilson's interval of its images. With several, Student's, of the variance between trainings and
    that between images: other trainings on other images would give a mean within it.
    """
    if len(of) == 1:
        return proportion(int(of[0].sum()), of.shape[1])
    estimate = _estimate(float(of.mean()), [of.mean(1)], of.mean(0))
    within = Interval(max(0.0, estimate.interval.low), min(1.0, estimate.interval.high))
    return estimate.model_copy(update={"interval": within})


def difference(first: Outcomes, second: Outcomes) -> IntervalEstimate:
    """Of the means of two rows on the same images; its interval is Welch's, with the variance between images added."""
    means = [first.mean(1), second.mean(1)]
    return _estimate(float(first.mean() - second.mean()), means, first.mean(0) - second.mean(0))


def _estimate(value: float, trainings: Sequence[Outcomes], images: Outcomes) -> IntervalEstimate:
    """trainings: of each row, the accuracy of each training. images: what each image adds to the value."""
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) for each in trainings if len(each) > 1]
    between = float(images.var(ddof=1)) / len(images) if len(images) > 1 else 0.0
    variance = sum(part for part, _ in parts) + between
    weights = sum(part * part / freedom for part, freedom in parts)  # Welch and Satterthwaite
    freedom = variance * variance / weights if weights else np.inf
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * variance**0.5
    return IntervalEstimate(value=value, interval=Interval(value - reach, value + reach), n=len(images))


def pairs(part: Measured, rows: dict[str, float], attack: str) -> list[Pair]:
    """Every two rows with printed figures and outcomes, the one first that the paper puts above. rows: its figures."""
    found = {}
    for label in rows:
        same = [each for each in part.models if each.label == label and each.source in (None, label)]
        of = outcomes(same, attack)
        if of is not None:
            found[label] = of
    ordered = sorted(found, key=lambda label: -rows[label])
    return [
        Pair(
            first,
            second,
            rows[first] - rows[second],
            difference(found[first], found[second]),
            min(len(found[first]), len(found[second])),
        )
        for first, second in combinations(ordered, 2)
        if rows[first] > rows[second]
    ]


def verdict(found: Sequence[Pair]) -> Verdict:
    """Whether the whole order holds: it does if that of every pair does, and does not if that of one does not."""
    return together(pair.verdict for pair in found)
