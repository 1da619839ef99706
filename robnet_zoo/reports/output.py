"""A report as a file: one HTML page, Markdown or CSV, as the file's ending says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.csv import csv
from robnet_zoo.reports.elements import Report
from robnet_zoo.reports.markdown import markdown
from robnet_zoo.reports.page import html

FORMATS: Mapping[str, Callable[[Report], str]] = MappingProxyType({".html": html, ".md": markdown, ".csv": csv})


def save(report: Report, output: str | os.PathLike[str]) -> None:
    """Write a report; the same report gives the same bytes.

    Args:
        output: a file that ends in .html (one page with everything), .md (its tables) or .csv (its figures).

    Raises: ReportError for another ending; OSError.
    """
    write_atomically(output, format_of(output)(report).encode(errors="backslashreplace"))


def format_of(output: str | os.PathLike[str]) -> Callable[[Report], str]:
    """Return what turns a report into the text of a file, by its ending. Raises ReportError for an unknown one."""
    path = Path(output)
    if path.suffix.lower() not in FORMATS:
        raise ReportError(f"{path}: expected a file that ends in {', '.join(FORMATS)}, got {path.suffix!r}")
    return FORMATS[path.suffix.lower()]
