"""Reports: results documents as one page, as Markdown, or as a table of figures. Nothing is computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.robustness.entries import read
from robnet_zoo.reports.robustness.page import html
from robnet_zoo.reports.robustness.plain import csv_text, markdown
from robnet_zoo.reports.robustness.sections import overview, sections

__all__ = ["ReportError", "write"]

FORMATS = (".html", ".md", ".csv")
TITLE = "Robustness report"


def write(results: Sequence[Result], output: Path) -> None:
    """Write a report of results documents; the same documents give the same bytes.

    output: its ending says what is written: .html one page with everything, .md the tables, .csv a row a model and
    attack. Raises ReportError for another ending, and for documents that cannot be shown.
    """
    if output.suffix not in FORMATS:
        raise ReportError(f"{output}: expected a file that ends in {', '.join(FORMATS)}, got {output.suffix!r}")
    entries = read(results)
    if output.suffix == ".csv":
        text = csv_text(entries)
    elif output.suffix == ".md":
        text = markdown(TITLE, overview(entries), sections(entries))
    else:
        text = html(TITLE, overview(entries), sections(entries))
    write_atomically(output, text.encode())
