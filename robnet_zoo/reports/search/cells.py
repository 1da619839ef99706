"""How the numbers of a search are written, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robnet_zoo.core.statistics import IntervalEstimate
from robnet_zoo.errors import SearchError
from robnet_zoo.reports.elements import (
    EMPTY,
    Column,
    Element,
    Missing,
    Table,
    TableCell,
    TableRow,
    estimate_cell,
)

NUMBERS = ("number", "value, 95\u00a0% interval", "candidates")


def search_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str | TableCell]],
    *,
    scale: str,
    note: str = "",
    texts: Sequence[int] = (0,),
) -> Table:
    """Return a table of a search.

    Args:
        scale: of the searches that the numbers are from.
        note: what the numbers mean.
        texts: which columns hold text; the others hold numbers.
    """
    columns = tuple(Column(head, numeric=index not in texts) for index, head in enumerate(heads))
    cells = (tuple(cell if isinstance(cell, TableCell) else TableCell(cell) for cell in row) for row in rows)
    return Table(title, columns, tuple(map(TableRow, cells)), note, scale, sortable=False)


def or_missing(title: str, build: Callable[[], Sequence[Element]]) -> tuple[Element, ...]:
    """Return what `build` gives or, where there are too few candidates for it, an element that says so."""
    try:
        return tuple(build())
    except SearchError as error:
        return (Missing(title, str(error)),)


def percents(estimate: IntervalEstimate) -> TableCell:
    """Return `50.3` over `49.8 – 50.9`, in percent."""
    return estimate_cell(estimate.value, estimate.interval, ".1%")


def points(estimate: IntervalEstimate) -> TableCell:
    """Return `+1.23` over `+0.95 – +1.51`, in percentage points."""
    return estimate_cell(estimate.value, estimate.interval, "+.2%")


def coefficient(estimate: IntervalEstimate | None) -> TableCell:
    """Return `+0.65` over `+0.60 – +0.70`, or a dash where there is none."""
    if estimate is None:
        return EMPTY
    return estimate_cell(estimate.value, estimate.interval, "+.2f")


def probability(p: float) -> str:
    """Write a probability: `0.012`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def in_words(cell: TableCell) -> str:
    """Return an estimate as it stands in a sentence: `+0.65 (+0.60 – +0.70)`."""
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text
