"""The paper's three findings, judged by the numbers of a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.statistics import IntervalEstimate, Verdict, together
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.figure5 import density
from robnet_zoo.search.analysis.figure6 import Budgets, budgets, convolutions
from robnet_zoo.search.analysis.figure7 import fsp
from robnet_zoo.search.analysis.observations import Observation, Observed
from robnet_zoo.search.space import Kind

ENOUGH = 25  # with fewer observations the intervals of rank correlations cover less than they claim


class Evidence(Document):
    """A number that is above 0 if a finding holds.

    Args:
        name: of the number.
        estimate: None if there are too few candidates for one.
        verdict: on this number alone.
        deciding: whether the finding's verdict depends on it; other numbers are only shown beside it.
        missing: why the estimate is missing.
    """

    name: str
    estimate: IntervalEstimate | None = None
    verdict: Verdict
    deciding: bool = True
    missing: str = ""


class Finding(Document):
    """A finding of the paper (section 1), its claim in numbers, and whether they support it."""

    number: Literal[1, 2, 3]
    claim: str
    verdict: Verdict
    evidence: Tuple[Evidence]


def verdict(estimate: IntervalEstimate | None) -> Verdict:
    """Return the verdict on a number that is claimed to be above 0: that of its interval (`Interval.verdict`).

    It is undecided for fewer than 25 observations.
    """
    if estimate is None or estimate.n < ENOUGH:
        return "undecided"
    return estimate.interval.verdict


def findings(searches: Sequence[Observed]) -> tuple[Finding, Finding, Finding]:
    """Return the three findings, judged by the uniformly drawn groups of at most one search of each kind.

    As in the paper, the first and the second are about cell-based candidates, the third about cell-free ones.
    """
    by_kind = {search.result.kind: search for search in searches}
    based, free = by_kind.get("cell_based"), by_kind.get("cell_free")
    uniform = based.uniform if based else ()
    return (
        _or_missing("cell_based", based, density_finding(uniform)),
        _or_missing("cell_based", based, direct_finding(uniform, based.budgeted if based else ())),
        _or_missing("cell_free", free, fsp_finding(free.uniform if free else ())),
    )


def _or_missing(kind: Kind, search: Observed | None, finding: Finding) -> Finding:
    if search is not None:
        return finding
    missing = f"there is no {kind.replace('_', '-')} result"
    evidence = tuple(number.model_copy(update={"missing": missing}) for number in finding.evidence)
    return finding.model_copy(update={"evidence": evidence})


def density_finding(observations: Sequence[Observation]) -> Finding:
    """Judge finding 1 by the rank correlation of density and robust accuracy (figure 5)."""
    claim = "Densely connected architectures are more robust: density correlates positively with robust accuracy."
    names = ("density and robust accuracy", "the same at equal numbers of convolutions")
    try:
        figure = density(observations)
    except SearchError as error:
        return _finding(1, claim, (_missing(names[0], error), _missing(names[1], error, deciding=False)))
    return _finding(
        1, claim, (_evidence(names[0], figure.spearman), _evidence(names[1], figure.given_convs, deciding=False))
    )


def direct_finding(uniform: Sequence[Observation], budgeted: Sequence[Observation]) -> Finding:
    """Judge finding 2 by rank correlations of the share of direct convolutions and robust accuracy (figure 6b).

    Those under the small and under the medium budget must both hold. Two numbers are shown beside them: the correlation
    under the large budget, where the paper calls it not obvious, and how much more a convolution adds on a direct edge
    than on a skip edge (figure 6a).
    """
    claim = (
        "Under small and medium budgets, convolutions belong on direct edges: their share of the convolutions "
        "correlates positively with robust accuracy."
    )
    evidence: list[Evidence] = []
    figure: Budgets | SearchError
    try:
        figure = budgets(budgeted)
    except SearchError as error:
        figure = error
    for name, deciding in (("small", True), ("medium", True), ("large", False)):
        title = f"share of direct convolutions and robust accuracy, {name} budget"
        if isinstance(figure, SearchError):
            evidence.append(_missing(title, figure, deciding=deciding))
            continue
        candidates = next(row for row in figure.budgets if row.budget == name)
        missing = f"expected 4 or more candidates that differ, got {candidates.n}"
        evidence.append(_evidence(title, candidates.correlation, deciding=deciding, missing=missing))
    title = "robust accuracy for a convolution more, direct minus skip edges"
    try:
        evidence.append(_evidence(title, convolutions(uniform).difference, deciding=False))
    except SearchError as error:
        evidence.append(_missing(title, error, deciding=False))
    return _finding(2, claim, evidence)


def fsp_finding(observations: Sequence[Observation], *, last: int | None = None) -> Finding:
    """Judge finding 3 by the rank correlation of the deeper cells' mean FSP distance and the gap (figures 7 and 8).

    last: how many cells count as deeper; by default the latter half.
    """
    claim = (
        "A robust network has a small FSP distance in its deeper cells: the distance correlates positively with the "
        "gap of clean and robust accuracy."
    )
    names = ("FSP distance of the deeper cells and gap", "the same at equal clean accuracy", "trend over depth")
    try:
        figure = fsp(observations, last=last)
    except SearchError as error:
        return _finding(3, claim, [_missing(name, error, deciding=name == names[0]) for name in names])
    return _finding(
        3,
        claim,
        (
            _evidence(names[0], figure.deep),
            _evidence(names[1], figure.given_clean, deciding=False),
            _evidence(names[2], figure.trend, deciding=False),
        ),
    )


def _finding(number: Literal[1, 2, 3], claim: str, evidence: Iterable[Evidence]) -> Finding:
    evidence = tuple(evidence)
    decided = together(number.verdict for number in evidence if number.deciding)
    return Finding(number=number, claim=claim, verdict=decided, evidence=evidence)


def _evidence(
    name: str,
    estimate: IntervalEstimate | None,
    *,
    deciding: bool = True,
    missing: str = "it cannot be estimated",
) -> Evidence:
    missing = "" if estimate else missing
    return Evidence(name=name, estimate=estimate, verdict=verdict(estimate), deciding=deciding, missing=missing)


def _missing(name: str, error: SearchError, *, deciding: bool = True) -> Evidence:
    return Evidence(name=name, estimate=None, verdict="undecided", deciding=deciding, missing=str(error))
