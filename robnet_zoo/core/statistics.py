"""The certainty of numbers: intervals, estimates with one, verdicts, and two models compared on the same images.

Every interval of the package has 95 % confidence. For a share it is Wilson's. Its text is the same everywhere,
`57.3 – 63.4`, and stands in parentheses after a value: `60.4% (57.3 – 63.4)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, GetCoreSchemaHandler, GetPydanticSchema
from pydantic_core import CoreSchema, core_schema

from robnet_zoo.core.documents import Document
from robnet_zoo.core.units import Share
from robnet_zoo.errors import StatisticsError

LEVEL = 0.95  # the confidence of every interval
Verdict = Literal["holds", "does not hold", "undecided"]


class Interval(NamedTuple):
    """The ends of a 95 % interval; in a document, the list `[low, high]`.

    A format applies to both ends, and a percent sign is not repeated.

    >>> f"{Interval(0.573, 0.634):.1%}"
    '57.3 – 63.4'
    """

    low: float
    high: float

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _pair_of(float, handler)

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        return " – ".join(format(end, spec or "g") for end in self).replace("%", "")

    def times(self, factor: float) -> Self:
        """Return the interval in another unit. factor: above 0, such as 100 for percent."""
        return type(self)(factor * self.low, factor * self.high)

    @property
    def verdict(self) -> Verdict:
        """Return whether the claim that the estimated number is above 0 holds.

        `holds` if the whole interval is above 0, `does not hold` if it is below 0, `undecided` if it contains 0.
        """
        return "holds" if self.low > 0 else "does not hold" if self.high < 0 else "undecided"


def _pair_of(kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    pair = handler.generate_schema(Annotated[tuple[kind, kind], Field(strict=False)])
    return core_schema.no_info_after_validator_function(Interval._make, pair)


ShareInterval = Annotated[Interval, GetPydanticSchema(lambda _, handler: _pair_of(Share, handler))]  # within 0 and 1


class IntervalEstimate(Document):
    """An estimated number with its interval.

    n: how many observations it is from.

    >>> f"{IntervalEstimate(value=0.604, interval=Interval(0.573, 0.634), n=1000):.1%}"
    '60.4% (57.3 – 63.4)'
    """

    value: float
    interval: Interval
    n: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        return f"{format(self.value, spec or 'g')} ({format(self.interval, spec)})"

    def times(self, factor: float) -> Self:
        """Return the estimate in another unit. factor: above 0, such as 100 for percent."""
        return self.model_copy(update={"value": factor * self.value, "interval": self.interval.times(factor)})


def wilson(right: int, n: int) -> Interval:
    """Return Wilson's score interval for a share of `right` in n (Wilson, 1927).

    It is computed step by step as scipy.stats does, to the last bit; importing that takes as long as importing torch.
    """
    from scipy.special import ndtri

    z, share = float(ndtri(0.5 + 0.5 * LEVEL)), right / n
    width = 2 * (n + z**2)
    centre = (2 * n * share + z**2) / width
    half = z / width * math.sqrt(4 * n * share * (1 - share) + z**2)
    return Interval(centre - half if right else 0.0, centre + half if right < n else 1.0)


def proportion(right: int, n: int) -> IntervalEstimate:
    """Return the share of `right` in n with Wilson's interval. Raises StatisticsError for n = 0."""
    if n < 1:
        raise StatisticsError("expected a share of 1 or more observations, got none")
    return IntervalEstimate(value=right / n, interval=wilson(right, n), n=n)


def with_interval(share: float, n: int) -> str:
    """Return a share of n, in percent, with its interval: `60.4% (57.3 – 63.4)`."""
    return f"{share:.1%} ({wilson(round(share * n), n):.1%})"


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on several claims: they hold if each does, and do not hold if one does not."""
    distinct = set(verdicts)
    if "does not hold" in distinct:
        return "does not hold"
    return "holds" if distinct == {"holds"} else "undecided"


class Comparison(NamedTuple):
    """Two models compared on the same images.

    first, second: how many images only this model gets right. p: the probability of a difference at least as large by
    chance (McNemar's exact test, two-sided).
    """

    first: int
    second: int
    p: float


def compare(first: Sequence[int], second: Sequence[int]) -> Comparison:
    """Compare two models' outcomes, 1 for right, on the same images in the same order by McNemar's exact test.

    Raises StatisticsError for different numbers of outcomes.
    """
    if len(first) != len(second):
        raise StatisticsError(f"expected outcomes on the same images, got {len(first)} and {len(second)}")
    only_first = sum(a > b for a, b in zip(first, second, strict=True))
    only_second = sum(b > a for a, b in zip(first, second, strict=True))
    return Comparison(only_first, only_second, float(_mcnemar(only_first, only_second)))


def compare_pairs(outcomes: npt.NDArray[np.int8], pairs: Sequence[tuple[int, int]]) -> list[Comparison]:
    """Compare pairs of models as `compare` does, many thousands of them in a second.

    Args:
        outcomes: (models, images), 1 for right.
        pairs: the rows of the two models of each comparison.
    """
    if not pairs:
        return []
    first, second = np.array(pairs).T
    right = outcomes.astype(np.float32)  # whole numbers below 2**24 are exact
    wrong = 1 - right
    rows = sorted(set(first.tolist()))
    only_first = (right[rows] @ wrong.T)[np.searchsorted(rows, first), second].astype(int)
    only_second = (wrong[rows] @ right.T)[np.searchsorted(rows, first), second].astype(int)
    p = _mcnemar(only_first, only_second)
    return list(map(Comparison, only_first.tolist(), only_second.tolist(), p.tolist()))


def _mcnemar(first: Any, second: Any) -> Any:
    """Return McNemar's exact p, two-sided, for numbers or arrays of images that only the first or second gets right."""
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(first, second), first + second, 0.5))
