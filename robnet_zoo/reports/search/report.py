"""The report of a search: its findings, its figures, and its best candidates beside the paper."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.wording import counted
from robnet_zoo.errors import SearchError
from robnet_zoo.reports.elements import Report, Section
from robnet_zoo.reports.search import figures
from robnet_zoo.reports.search.best import Pick, best, picked
from robnet_zoo.reports.search.findings import judged
from robnet_zoo.reports.search.paper import caveats, differences
from robnet_zoo.reports.search.searched import kind, searched
from robnet_zoo.search.analysis.figure7 import deeper
from robnet_zoo.search.analysis.observations import Observation, Observed
from robnet_zoo.search.result import StudyResult


def search_report(results: Sequence[StudyResult], *, picks: Sequence[Pick] = ()) -> Report:
    """Return the report of a search. Where there are too few candidates for a figure, it says so.

    Args:
        results: those of a search, at most one of each kind.
        picks: the specs that the search picked, each with its candidate.

    Raises: SearchError for no result and for two of one kind.
    """
    kinds = [result.kind for result in results]
    if not results or len(set(kinds)) < len(kinds):
        raise SearchError(f"expected one or two results of different kinds, got {', '.join(kinds) or 'none'}")
    searches = [Observed.from_result(result) for result in results]
    return Report(
        f"Search report: {', '.join(dict.fromkeys(result.config.name for result in results))}",
        "; ".join(map(_overview, results)) + ".",
        tuple(_sections(results, searches, picks)),
        tuple(_figures(search.result, each) for search in searches for each in search.observations),
    )


def _overview(result: StudyResult) -> str:
    done = sum(candidate.after is not None for candidate in result.candidates)
    return f"{counted(len(result.candidates), f'{kind(result)} candidate')}, {done:,} of them finetuned"


def _sections(results: Sequence[StudyResult], searches: Sequence[Observed], picks: Sequence[Pick]) -> list[Section]:
    return [
        judged(searches),
        searched(searches),
        *(section for search in searches for section in figures.sections(search)),
        best(searches),
        picked(results, picks),
        differences(results),
        caveats(),
    ]


def _figures(result: StudyResult, observation: Observation) -> dict[str, object]:
    """Return a row of the CSV file, for one candidate; what was not measured is None."""
    candidate = observation.candidate
    before, after = candidate.before, candidate.after
    last = candidate.fsp[-deeper(len(candidate.fsp)) :]
    return {
        "search": result.config.name,
        "kind": result.kind,
        "group": candidate.group,
        "index": candidate.index,
        "clean_before": before.clean if before else None,
        "robust_before": before.robust if before else None,
        "clean": after.clean if after else None,
        "robust": after.robust if after else None,
        "images": result.validation,
        "eps": result.config.evaluation.eps,
        "steps": result.config.evaluation.steps,
        "density": observation.density,
        "direct": observation.direct,
        "skip": observation.skip,
        "budget": observation.budget,
        "multiply_adds": observation.multiply_adds,
        "parameters": observation.parameters,
        "fsp_of_last_half": sum(last) / len(last) if last else None,
        "seconds": candidate.seconds,
        "spec_hash": candidate.hash,
        "supernet_state_sha256": result.supernet_state_sha256,
    }
