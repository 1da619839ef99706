"""A search's report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import SearchError
from robnet_zoo.reports.html import environment, style
from robnet_zoo.reports.search import figures
from robnet_zoo.reports.search.blocks import Section
from robnet_zoo.reports.search.candidates import Pick, best, picked
from robnet_zoo.reports.search.judged import judged
from robnet_zoo.reports.search.paper import caveats, differences
from robnet_zoo.reports.search.scale import kind, searched
from robnet_zoo.search.analysis.observations import Observed
from robnet_zoo.search.result import StudyResult

FOLDER = Path(__file__).parent


def write_report(results: Sequence[StudyResult], path: str | os.PathLike[str], *, picks: Sequence[Pick] = ()) -> None:
    """Write the report of a search: its results, one of each kind at most, to an HTML file.

    picks: the specs that came out, with the candidate that each is. The same documents give the same bytes. What there
    are too few candidates for, the page says. Raises SearchError for no result and for two of one kind, and OSError.
    """
    write_atomically(path, html(results, picks=picks).encode())


def html(results: Sequence[StudyResult], *, picks: Sequence[Pick] = ()) -> str:
    """The page. Whatever comes from documents is escaped by the template engine. Raises SearchError."""
    kinds = [result.kind for result in results]
    if not results or len(set(kinds)) < len(kinds):
        raise SearchError(f"expected one or two results of different kinds, got {', '.join(kinds) or 'none'}")
    return (
        environment(FOLDER)
        .get_template("page.html")
        .render(
            title=f"Search report: {', '.join(dict.fromkeys(result.config.name for result in results))}",
            overview="; ".join(_overview(result) for result in results) + ".",
            sections=_sections(results, picks),
            style=style(FOLDER),
        )
    )


def _overview(result: StudyResult) -> str:
    done = sum(one.after is not None for one in result.candidates)
    return f"{len(result.candidates):,} {kind(result)} candidates, {done:,} of them finetuned"


def _sections(results: Sequence[StudyResult], picks: Sequence[Pick]) -> list[Section]:
    searches = [Observed.from_result(result) for result in results]
    return [
        judged(searches),
        searched(searches),
        *(section for search in searches for section in figures.sections(search)),
        best(searches),
        picked(results, picks),
        differences(results),
        caveats(),
    ]
