"""The figures of a report as CSV, for other programs.

A spreadsheet takes a text that begins with certain characters for a formula and computes it, whoever wrote it, so such
a text gets an apostrophe before it; control characters, which could end a row, are escaped. Numbers stay as they are.
"""

from __future__ import annotations

import io
from csv import DictWriter

from robnet_zoo.errors import printable
from robnet_zoo.reports.elements import Report

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what formulas begin with


def csv(report: Report) -> str:
    """Return a report's rows below their names; a value that is not known is empty."""
    text = io.StringIO()
    writer = DictWriter(text, list(report.rows[0]) if report.rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in report.rows)
    return text.getvalue()


def _inert(value: object) -> object:
    """Return a value as it is, or a text that no spreadsheet takes for a formula or for several rows."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text
