"""A report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from robnet_zoo.reports.elements import Bytes, Chart, Element, Picture, Report, Section, Table

FOLDER = Path(__file__).parent
CONTRAST = 96  # of 255: how far an enlarged difference goes from grey


def html(report: Report) -> str:
    """Return the page. The template engine escapes everything that comes from documents.

    The page has a script only where a table can be sorted.
    """
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.tests["of_kind"] = lambda element, kind: type(element).__name__ == kind
    templates.filters |= {"png": png, "breakable": breakable, "side_by_side": side_by_side}
    return templates.get_template("page.html").render(
        report=report,
        style=_text("page.css"),
        script=_text("page.js") if any(map(_is_sorted, report.sections)) else "",
        difference=difference,
        farthest=farthest,
        factor=factor,
    )


def side_by_side(elements: Sequence[Element]) -> Iterator[tuple[bool, list[Element]]]:
    """Group elements: folded charts that follow each other stand in rows (True), anything else stands by itself."""
    for folded, group in groupby(elements, lambda element: isinstance(element, Chart) and not element.beside):
        if folded:
            yield True, list(group)
        else:
            yield from ((False, [element]) for element in group)


def breakable(text: str) -> Markup:
    """Return text that may be broken into lines after the punctuation within a name."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/-])(?=[A-Za-z0-9])", text))


def png(pixels: Bytes) -> str:
    """Return (H, W, 3) uint8 as a data address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def difference(picture: Picture) -> Bytes:
    """Return what the attack changed, times `factor`, around grey: (H, W, 3) uint8."""
    change = picture.adversarial.astype(np.int16) - picture.clean.astype(np.int16)
    return (128 + factor(picture) * change).clip(0, 255).astype(np.uint8)


def farthest(picture: Picture) -> int:
    """Return the largest change of a value, in 255ths."""
    return int(np.abs(picture.adversarial.astype(np.int16) - picture.clean.astype(np.int16)).max())


def factor(picture: Picture) -> int:
    """Return the largest whole number by which the difference can be multiplied and stay within CONTRAST."""
    return max(CONTRAST // max(farthest(picture), 1), 1)


def _is_sorted(section: Section) -> bool:
    return any(isinstance(element, Table) and element.sortable for element in section.elements)


def _text(name: str) -> Markup:
    return Markup((FOLDER / name).read_text(encoding="utf-8"))
