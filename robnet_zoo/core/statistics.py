"""How sure a figure is: intervals of shares, and models compared on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from robnet_zoo.core.documents import Share

Interval = Annotated[tuple[Share, Share], Field(strict=False)]


def wilson(right: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of `right` in n (Wilson, 1927)."""
    interval = _binomial(right, n).proportion_ci(confidence_level=confidence, method="wilson")
    return (float(interval.low), float(interval.high))


def with_interval(share: float, n: int) -> str:
    """A share of n, in percent, and its interval: `60.4% (57.3 – 63.4)`."""
    low, high = wilson(round(share * n), n)
    return f"{share:.1%} ({100 * low:.1f} – {100 * high:.1f})"


class Comparison(NamedTuple):
    """Two models on the same images. first, second: images that this one alone gets right. p: of a difference as large
    by chance (McNemar's exact test, two-sided)."""

    first: int
    second: int
    p: float


def compare(first: Sequence[int], second: Sequence[int]) -> Comparison:
    """McNemar's exact test on two models' outcomes, 1 for right, on the same images in the same order."""
    if len(first) != len(second):
        raise ValueError(f"expected outcomes on the same images, got {len(first)} and {len(second)}")
    only_first = sum(a > b for a, b in zip(first, second, strict=True))
    only_second = sum(b > a for a, b in zip(first, second, strict=True))
    n = only_first + only_second
    return Comparison(only_first, only_second, float(_binomial(only_first, n).pvalue) if n else 1.0)


def _binomial(right: int, n: int) -> Any:
    """scipy's test of `right` in n; its import takes as long as torch's, so it is not made before it is due."""
    from scipy.stats import binomtest

    return binomtest(right, n)
