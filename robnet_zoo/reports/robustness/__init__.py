"""The report of results documents of `robnet-zoo benchmark`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from robnet_zoo.benchmarks.exports import ExportsResult
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.output import format_of, save
from robnet_zoo.reports.robustness.comparisons import comparisons_report
from robnet_zoo.reports.robustness.report import robustness_report

__all__ = ["comparisons_report", "robustness_report", "write"]


def write(
    results: Sequence[Result],
    output: str | os.PathLike[str],
    *,
    comparisons: str | os.PathLike[str] | None = None,
    exported: Sequence[ExportsResult] = (),
) -> None:
    """Write a report of results documents; the same documents give the same bytes.

    Args:
        output: a file that ends in .html (one page with everything), .md (its tables) or .csv (a row for each model
            and attack).
        comparisons: a file with one of these endings for the comparisons of every two models, of which the report
            itself shows only those with the best model where there are many.
        exported: documents of the exports of models, for a table of sizes, latencies and accuracies.

    Raises: ReportError for another ending, for documents that cannot be shown, and where comparisons are asked for and
        no two models were measured on the same images. Nothing is written then.
    """
    format_of(output)  # before the work of the report
    if comparisons is None:
        save(robustness_report(results, exported), output)
        return
    format_of(comparisons)
    if Path(output).resolve() == Path(comparisons).resolve():
        raise ReportError(f"{output}: expected another file for the comparisons than for the report, got the same")
    report, compared = robustness_report(results, exported), comparisons_report(results)
    save(report, output)
    save(compared, comparisons)
