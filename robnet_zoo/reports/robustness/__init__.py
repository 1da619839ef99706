"""The report of results documents of `robnet-zoo benchmark`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.reports.output import save
from robnet_zoo.reports.robustness.report import robustness_report

__all__ = ["robustness_report", "write"]


def write(results: Sequence[Result], output: str | os.PathLike[str]) -> None:
    """Write a report of results documents; the same documents give the same bytes.

    Args:
        output: a file that ends in .html (one page with everything), .md (its tables) or .csv (a row for each model
            and attack).

    Raises: ReportError for another ending, and for documents that cannot be shown.
    """
    save(robustness_report(results), output)
