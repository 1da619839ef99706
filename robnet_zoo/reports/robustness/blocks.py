"""What a report is made of, before it is written in any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

Value = float | str | None
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Column:
    """numeric: aligned right, sorted from large to small first."""

    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """text: what is read. value: what the column is sorted by. detail: a smaller second line. share: tint, 0 to 1."""

    text: str
    value: Value = None
    detail: str = ""
    share: float | None = None


EMPTY = Cell("–")


@dataclass(frozen=True)
class Row:
    """The first cell names the row. origin: where its figures come from, in tables that hold both kinds."""

    cells: tuple[Cell, ...]
    origin: Literal["", "paper", "measured here"] = ""


@dataclass(frozen=True)
class Table:
    """title: a caption that says what the figures are."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    sortable: bool = True
    heat: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing, what its marks mean, and its figures as a table."""

    title: str
    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]
    table: Table


@dataclass(frozen=True)
class Notice:
    """Something to know before the figures are read. kind: what it is, in a word. meaning: of every such one."""

    kind: str
    model: str
    text: str
    meaning: str = ""
    serious: bool = True


@dataclass(frozen=True)
class Notices:
    """quiet: the line that stands here when there is nothing serious."""

    notices: tuple[Notice, ...]
    quiet: str


@dataclass(frozen=True)
class Picture:
    """One image before and after an attack.

    clean, adversarial: (H, W, 3) uint8. label: its class. before, after: what the model sees in each.
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


@dataclass(frozen=True)
class Record:
    """A document's particulars: (what, value, whether the value is a hash)."""

    title: str
    fields: tuple[tuple[str, str, bool], ...]


Block = Table | Chart | Notices | Gallery | Record


@dataclass(frozen=True)
class Section:
    """key: its anchor."""

    key: str
    title: str
    intro: str
    blocks: tuple[Block, ...]
