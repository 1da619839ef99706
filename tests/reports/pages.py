"""Pages of reports, taken apart."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from robnet_zoo.benchmarks.result import (
    Result,
)
from robnet_zoo.reports import robustness as report


class Tree(HTMLParser):
    """The elements of a page: (name, attributes, names of those around it), and rows of tables as texts."""

    VOID = ("meta", "img", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "small":
            self.rows[-1][-1] += "\n"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data.strip("\n")

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def row(self, *start: str) -> list[str]:
        """The first row whose cells begin with these texts."""
        return next(row for row in self.rows if all(a.startswith(b) for a, b in zip(row, start, strict=False)))


def html(results: list[Result], tmp_path: Path) -> Tree:
    report.write(results, tmp_path / "report.html")
    return Tree((tmp_path / "report.html").read_text())


def ids(tree: Tree) -> list[str]:
    return [attributes["id"] for attributes in tree.named("section")]


def section(folder: Path, key: str) -> str:
    text = (folder / "report.html").read_text()
    return text[text.index(f'<section id="{key}"') :].partition("</section>")[0]


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
