"""What a report is made of, before it is written in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from robnet_zoo.core.statistics import Interval

SortKey = float | str | None
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Column:
    """The head of a column. A numeric one is aligned right and sorted from large to small first."""

    label: str
    numeric: bool = True


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Args:
        text: what is read.
        value: what the column is sorted by.
        detail: a smaller second line.
        share: the strength of a tint, 0 to 1.
    """

    text: str
    value: SortKey = None
    detail: str = ""
    share: float | None = None


EMPTY = TableCell("–")


@dataclass(frozen=True)
class TableRow:
    """A row, which its first cell names. origin: where its figures come from, in tables that hold both kinds."""

    cells: tuple[TableCell, ...]
    origin: Literal["", "paper", "measured here"] = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: a caption that says what the figures are.
        note: how to read them.
        scale: the scale at which they were measured, where it is not the paper's.
        sortable: whether a click on a head sorts the rows.
        heat: whether cells are tinted by their share.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    note: str = ""
    scale: str = ""
    sortable: bool = True
    heat: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing, what its marks mean, and its figures as a table, which is folded or stands beside it.

    Args:
        legend: (mark, name) of each series.
        beside: whether the table stands beside the drawing; otherwise it opens below it.
        wide: whether the drawing takes the whole width.
    """

    title: str
    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]
    table: Table
    beside: bool = False
    wide: bool = False


class Notice(NamedTuple):
    """Something to know before the figures are read, and whose figures."""

    who: str
    text: str


@dataclass(frozen=True)
class NoticeGroup:
    """All notices of one kind, with what such a notice means. A group that is not serious is one line."""

    kind: str
    meaning: str
    notices: tuple[Notice, ...]
    serious: bool = True


@dataclass(frozen=True)
class Notices:
    """Groups of notices, the worst first. quiet: the line that stands here when none is serious."""

    groups: tuple[NoticeGroup, ...]
    quiet: str


@dataclass(frozen=True)
class Picture:
    """One image before and after an attack.

    Args:
        clean, adversarial: (H, W, 3) uint8.
        label: the image's class.
        before, after: the classes that the model sees in each.
    """

    clean: Bytes
    adversarial: Bytes
    label: str
    before: str
    after: str
    title: str


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, and how many more there are."""

    pictures: tuple[Picture, ...]
    more: int = 0


class Particular(NamedTuple):
    """One line of a record. hash: whether the value is one."""

    what: str
    value: str
    hash: bool = False


@dataclass(frozen=True)
class Record:
    """The particulars of a document. unfolded: whether they are shown at once."""

    title: str
    particulars: tuple[Particular, ...]
    unfolded: bool = False


@dataclass(frozen=True)
class Remarks:
    """A list of sentences."""

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """Something that cannot be shown, and why."""

    title: str
    reason: str


@dataclass(frozen=True)
class Judgement:
    """A claim of the paper, the verdict on it here, what the paper measured, and the numbers measured here."""

    number: int
    claim: str
    verdict: str
    paper: str
    table: Table


Element = Table | Chart | Notices | Gallery | Record | Remarks | Missing | Judgement


@dataclass(frozen=True)
class Section:
    """A part of a report. key: its anchor."""

    key: str
    title: str
    intro: str
    elements: tuple[Element, ...]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Args:
        overview: what the report is about, in a line.
        rows: its figures as they stand in the documents, a mapping from the same columns for each row of a CSV file.
    """

    title: str
    overview: str
    sections: tuple[Section, ...]
    rows: tuple[Mapping[str, object], ...]


def estimate_cell(value: float, interval: Interval, form: str) -> TableCell:
    """Return a number over its interval: `52.6` over `49.5 – 55.7`.

    Args:
        form: how a number is written, as in an f-string. A percent sign is left out: the head of the column has it.
    """
    return TableCell(format(value, form).replace("%", ""), value, format(interval, form))


def percent(share: float) -> str:
    """Write a share of 1 in percent, to one digit."""
    return f"{100 * share:.1f}"
