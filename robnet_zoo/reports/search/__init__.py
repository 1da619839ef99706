"""The report of a search. Every number is from `robnet_zoo.search.analysis`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from robnet_zoo.reports.output import format_of, save
from robnet_zoo.reports.search.best import Pick
from robnet_zoo.reports.search.report import search_report
from robnet_zoo.search.result import StudyResult

__all__ = ["search_report", "write"]


def write(results: Sequence[StudyResult], output: str | os.PathLike[str], *, picks: Sequence[Pick] = ()) -> None:
    """Write the report of a search; the same documents give the same bytes.

    Args:
        results: those of a search, at most one of each kind.
        output: a file that ends in .html (one page with everything), .md (its tables) or .csv (a row for each
            candidate).
        picks: the specs that the search picked, each with its candidate.

    Raises: SearchError for no result and for two of one kind; ReportError for another ending; OSError.
    """
    format_of(output)  # before the work of the report
    save(search_report(results, picks=picks), output)
