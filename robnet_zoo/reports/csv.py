"""The figures of a report as CSV, for other programs."""

from __future__ import annotations

import io
from csv import DictWriter

from robnet_zoo.reports.elements import Report


def csv(report: Report) -> str:
    """Return a report's rows below their names; a value that is not known is empty."""
    text = io.StringIO()
    writer = DictWriter(text, list(report.rows[0]) if report.rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(report.rows)
    return text.getvalue()
