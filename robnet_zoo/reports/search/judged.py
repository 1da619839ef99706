"""The three findings and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.reports.search.blocks import Judged, Section, Table, coefficient, points
from robnet_zoo.reports.search.paper import FINDINGS
from robnet_zoo.reports.search.scale import scales
from robnet_zoo.search.analysis.findings import ENOUGH, Evidence, Finding, findings
from robnet_zoo.search.analysis.observations import Observed

RULE = (
    "Each number is above 0 if the finding holds. A number holds if its whole 95 % interval is above 0, does not hold "
    f"if it is below 0, and is undecided if 0 lies within or fewer than {ENOUGH} candidates tell. A finding holds if "
    "all deciding numbers do, does not hold if one does not, and is undecided otherwise."
)


def judged(searches: Sequence[Observed]) -> Section:
    """The section."""
    blocks = tuple(_block(finding, searches) for finding in findings(searches))
    return Section("findings", "The paper's three findings", RULE, blocks)


def _block(finding: Finding, searches: Sequence[Observed]) -> Judged:
    rows = tuple(judged_row(one) for one in finding.evidence)
    columns = ("number", "estimate (95\u00a0% interval)", "candidates", "verdict", "role")
    lines = scales([search.result for search in searches], "cell_free" if finding.number == 3 else "cell_based")
    title = f"Finding {finding.number}: rank correlations"
    if finding.number == 2:
        title += "; of convolutions, percentage points each"
    table = Table(title, columns, rows, lines, texts=(0, 3, 4))
    return Judged(finding.number, finding.claim, finding.verdict, FINDINGS[finding.number], table)


def judged_row(one: Evidence) -> tuple[str, str, str, str, str]:
    """A number in words: name, estimate, candidates, verdict, role."""
    role = "deciding" if one.deciding else "beside it"
    if one.estimate is None:
        return (one.name, f"none: {one.missing}", "–", one.verdict, role)
    written = points(one.estimate) if one.name.startswith("robust accuracy for") else coefficient(one.estimate)
    return (one.name, written, f"{one.estimate.n:,}", one.verdict, role)
