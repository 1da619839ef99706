"""Whether the paper's order of models holds in what was measured, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from robnet_zoo.core.statistics import LEVEL, Interval, IntervalEstimate, Verdict, proportion, together, wilson
from robnet_zoo.reproduce.result import ModelResult, PartResult

ROUNDING = 1e-9  # below which a width is none
OutcomeMatrix = npt.NDArray[np.float64]  # (seeds, images) of 0 or 1


@dataclass(frozen=True)
class Pair:
    """Two rows of which the paper puts the first above the second.

    printed: the paper's difference, in points. difference: what was measured for the first minus the second, as a
    share. trainings: how often the row with fewer trainings was trained.
    """

    first: str
    second: str
    printed: float
    difference: IntervalEstimate
    trainings: int

    @property
    def verdict(self) -> Verdict:
        """Return whether the paper's order of the two rows holds: `Interval.verdict` of their difference.

        It is undecided where a row was trained only once, since the interval then covers the choice of images alone,
        and where nothing varies, or there is one image alone, so that the interval says nothing of others.
        """
        told = self.trainings > 1 and self.difference.n > 1 and _varies(self.difference)
        return self.difference.interval.verdict if told else "undecided"


def _varies(estimate: IntervalEstimate) -> bool:
    """Return whether an interval has a width; without variance between trainings and between images it has none."""
    low, high = estimate.interval
    return high - low > ROUNDING


def outcomes(models: Sequence[ModelResult], attack: str) -> OutcomeMatrix | None:
    """Return the outcomes of the trainings of one row, (seeds, images), or None if one of them lacks the attack."""
    rows = [model.under(attack) for model in models]
    return np.array([row.bits for row in rows if row], dtype=float) if rows and all(rows) else None


def accuracy(right: OutcomeMatrix) -> IntervalEstimate:
    """Estimate the mean over trainings and images.

    With one training the interval is Wilson's, of its images. With several it is Student's, with the variance between
    trainings and that between images added: other trainings on other images would give a mean within it. Where neither
    varies, which does not say that others would not, it is Wilson's again, as if there were one training.

    Args:
        right: (seeds, images) of 0 or 1.
    """
    if len(right) == 1:
        return proportion(int(right[0].sum()), right.shape[1])
    estimate = estimated(float(right.mean()), [right.mean(1)], right.mean(0))
    low, high = estimate.interval if _varies(estimate) else wilson(round(estimate.value * estimate.n), estimate.n)
    return estimate.model_copy(update={"interval": Interval(max(0.0, low), min(1.0, high))})


def difference(first: OutcomeMatrix, second: OutcomeMatrix) -> IntervalEstimate:
    """Estimate the difference between the means of two rows on the same images.

    Its interval is Welch's, with the variance between images added.

    Args:
        first, second: (seeds, images) of 0 or 1.
    """
    means = [first.mean(1), second.mean(1)]
    return estimated(float(first.mean() - second.mean()), means, first.mean(0) - second.mean(0))


def estimated(
    value: float, trainings: Sequence[npt.NDArray[np.float64]], images: npt.NDArray[np.float64]
) -> IntervalEstimate:
    """Return a value with an interval that covers other trainings and other images.

    Args:
        value: a mean, or a difference of two.
        trainings: for each row in the value, the accuracy of each training, (seeds,).
        images: what each image adds to the value, (images,).
    """
    parts = [(float(each.var(ddof=1)) / len(each), len(each) - 1) for each in trainings if len(each) > 1]
    between = float(images.var(ddof=1)) / len(images) if len(images) > 1 else 0.0
    variance = sum(part for part, _ in parts) + between
    weights = sum(part * part / freedom for part, freedom in parts)  # Welch and Satterthwaite
    freedom = variance * variance / weights if weights else np.inf
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * variance**0.5
    return IntervalEstimate(value=value, interval=Interval(value - reach, value + reach), n=len(images))


def pairs(part: PartResult, rows: dict[str, float], attack: str) -> list[Pair]:
    """Return every two rows with outcomes, the one first that the paper puts above.

    Args:
        part: what was measured.
        rows: the paper's figure for each row, in percent.
        attack: the attack of these figures.
    """
    measured = {}
    for label in rows:
        models = [model for model in part.models if model.label == label and model.source in (None, label)]
        right = outcomes(models, attack)
        if right is not None:
            measured[label] = right
    ordered = sorted(measured, key=lambda label: -rows[label])
    return [
        Pair(
            first,
            second,
            rows[first] - rows[second],
            difference(measured[first], measured[second]),
            min(len(measured[first]), len(measured[second])),
        )
        for first, second in combinations(ordered, 2)
        if rows[first] > rows[second]
    ]


def verdict(compared: Sequence[Pair]) -> Verdict:
    """Return whether the whole order holds: it does if every pair does, and does not if one pair does not."""
    return together(pair.verdict for pair in compared)
