"""What a page is made of, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robnet_zoo.core.statistics import IntervalEstimate, Verdict
from robnet_zoo.errors import SearchError


@dataclass(frozen=True)
class Table:
    """columns: heads. texts: places of the columns that hold text; the others hold numbers. note: what they mean.

    scale: of the search that the numbers are from; empty where they are of several.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    scale: str
    note: str = ""
    texts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Drawing:
    """A figure. number: the paper's. wide: takes the whole width."""

    title: str
    svg: Markup
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Record:
    """(what, value) in a list."""

    title: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Notes:
    """A list of sentences."""

    notes: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """What is not there, and why."""

    title: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """A finding: its claim, the verdict, what the paper found, and the numbers."""

    number: int
    claim: str
    verdict: Verdict
    paper: str
    table: Table


Block = Table | Drawing | Record | Notes | Missing | Judged


@dataclass(frozen=True)
class Section:
    """key: its anchor."""

    key: str
    title: str
    intro: str
    blocks: tuple[Block, ...]


def or_missing(title: str, build: Callable[[], Sequence[Block]]) -> tuple[Block, ...]:
    """What `build` gives or, where there are too few candidates for it, a block that says so."""
    try:
        return tuple(build())
    except SearchError as error:
        return (Missing(title, str(error)),)


def percent(value: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * value:.1f}"


def percents(estimate: IntervalEstimate) -> str:
    """`50.3 (49.8 – 50.9)`, in percent."""
    return _unbroken(f"{estimate.times(100):.1f}")


def points(estimate: IntervalEstimate) -> str:
    """`+1.23 (+0.95 – +1.51)`, in percentage points."""
    return _unbroken(f"{estimate.times(100):+.2f}")


def coefficient(estimate: IntervalEstimate | None) -> str:
    """`+0.65 (+0.60 – +0.70)`; a dash where there is none."""
    return "–" if estimate is None else _unbroken(f"{estimate:+.2f}")


def _unbroken(text: str) -> str:
    """A line may end before the interval, not within."""
    return text.replace(" – ", "\u00a0–\u00a0")


def probability(p: float) -> str:
    """`0.012`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
