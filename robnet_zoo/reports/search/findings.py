"""The three findings and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.reports.elements import Judgement, Section, TableCell
from robnet_zoo.reports.search.cells import coefficient, points, search_table
from robnet_zoo.reports.search.paper import FINDINGS
from robnet_zoo.reports.search.searched import scales
from robnet_zoo.search.analysis.findings import ENOUGH, Evidence, Finding, findings
from robnet_zoo.search.analysis.observations import Observed

RULE = (
    "Each number is above 0 if the finding holds. A number holds if its whole 95 % interval is above 0, does not hold "
    f"if it is below 0, and is undecided if 0 lies within or fewer than {ENOUGH} candidates tell. A finding holds if "
    "all deciding numbers do, does not hold if one does not, and is undecided otherwise."
)


def judged(searches: Sequence[Observed]) -> Section:
    """Return the section of the findings."""
    judgements = tuple(_judgement(finding, searches) for finding in findings(searches))
    return Section("findings", "The paper's three findings", RULE, judgements)


def _judgement(finding: Finding, searches: Sequence[Observed]) -> Judgement:
    rows = tuple(map(judged_row, finding.evidence))
    columns = ("number", "estimate, 95\u00a0% interval", "candidates", "verdict", "role")
    lines = scales([search.result for search in searches], "cell_free" if finding.number == 3 else "cell_based")
    title = f"Finding {finding.number}: rank correlations"
    if finding.number == 2:
        title += "; of convolutions, percentage points each"
    table = search_table(title, columns, rows, scale=lines, texts=(0, 3, 4))
    return Judgement(finding.number, finding.claim, finding.verdict, FINDINGS[finding.number], table)


def judged_row(evidence: Evidence) -> tuple[TableCell, ...]:
    """Return a number's name, estimate, candidates, verdict and role."""
    role = "deciding" if evidence.deciding else "beside it"
    if evidence.estimate is None:
        estimate, n = TableCell(f"none: {evidence.missing}"), "–"
    else:
        in_points = evidence.name.startswith("robust accuracy for")
        estimate, n = (points if in_points else coefficient)(evidence.estimate), f"{evidence.estimate.n:,}"
    return (TableCell(evidence.name), estimate, TableCell(n), TableCell(evidence.verdict), TableCell(role))
