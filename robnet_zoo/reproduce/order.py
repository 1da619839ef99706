"""Whether the paper's order of models holds in what was measured, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from robnet_zoo.core.statistics import wilson
from robnet_zoo.reproduce.result import Measured, Trained

LEVEL = 0.95
Verdict = Literal["holds", "reversed", "undecided"]
Outcomes = npt.NDArray[np.float64]  # (seeds, images) of 0 or 1


@dataclass(frozen=True)
class Estimate:
    """A mean over trainings and images, or a difference of two, and its 95 % interval, as shares."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two rows of which the paper puts the first above the second; difference: first minus second, here.

    trainings: of the row that has fewer.
    """

    first: str
    second: str
    printed: float
    difference: Estimate
    trainings: int

    @property
    def verdict(self) -> Verdict:
        """`holds` if the whole interval is above 0, `reversed` if it is below, and `undecided` if 0 is within, or where
        a row was trained once: then the interval is of the images alone."""
        if self.trainings < 2:
            return "undecided"
        return "holds" if self.difference.low > 0 else "reversed" if self.difference.high < 0 else "undecided"


def outcomes(models: Sequence[Trained], attack: str) -> Outcomes | None:
    """(seeds, images) of the trainings of one row, if all of them were attacked so."""
    found = [each.of(attack) for each in models]
    return np.array([each.bits for each in found if each], dtype=float) if found and all(found) else None


def accuracy(of: Outcomes) -> Estimate:
    """The mean over trainings and images.

    With one training, Wilson's interval of its images. With several, Student's, of the variance between trainings and
    that between images: other trainings on other images would give a mean within it.
    """
    if len(of) == 1:
        right, n = int(of[0].sum()), of.shape[1]
        return Estimate(right / n, *wilson(right, n))
    found = _estimate(float(of.mean()), [of.mean(1)], of.mean(0))
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def difference(first: Outcomes, second: Outcomes) -> Estimate:
    """Of the means of two rows on the same images; its interval is Welch's, with the variance between images added."""
    means = [first.mean(1), second.mean(1)]
    return _estimate(float(first.mean() - second.mean()), means, first.mean(0) - second.mean(0))


def _estimate(value: float, trainings: Sequence[Outcomes], images: Outcomes) -> Estimate:
    """trainings: of each row, the accuracy of each training. images: what each image adds to the value."""
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) for each in trainings if len(each) > 1]
    between = float(images.var(ddof=1)) / len(images) if len(images) > 1 else 0.0
    variance = sum(part for part, _ in parts) + between
    weights = sum(part * part / freedom for part, freedom in parts)  # Welch and Satterthwaite
    freedom = variance * variance / weights if weights else np.inf
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * variance**0.5
    return Estimate(value, value - reach, value + reach)


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
    """Of the whole order: it holds if every pair does, is reversed where one is, and is undecided otherwise."""
    verdicts = {pair.verdict for pair in found}
    if "reversed" in verdicts:
        return "reversed"
    return "holds" if verdicts == {"holds"} else "undecided"
