"""What tables of trained cells say about the paper's findings, in lines and side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robnet_zoo.search.analysis.findings import Evidence
from robnet_zoo.search.analysis.tables import SpaceFindings


def lines(result: SpaceFindings) -> Iterator[str]:
    """Yield the numbers of a table in lines, each a rank correlation with robust accuracy."""
    yield f"{result.space}: {result.n:,} cells, rank correlations with {result.robust} (95 % intervals)"
    for number in result.evidence:
        yield f"  {number.name}: {written(number)}"


def written(number: Evidence) -> str:
    """Return an estimate as it stands in a line: `+0.79 (+0.78 – +0.80), n = 6,466, holds`."""
    if number.estimate is None:
        return f"none: {number.missing}"
    return f"{number.estimate:+.2f}, n = {number.estimate.n:,}, {number.verdict}"


def side_by_side(results: Sequence[SpaceFindings]) -> str:
    """Return a table with a row for each number that all the results have, and a column for each result."""
    shared = [number.name for number in results[0].evidence if all(number.name in _names(each) for each in results)]
    heads = [f"{each.space}, n = {each.n:,}" for each in results]
    rows = [f"| rank correlation with robust accuracy of | {' | '.join(heads)} |", "|---" * (1 + len(results)) + "|"]
    for name in shared:
        cells = []
        for each in results:
            number = next(number for number in each.evidence if number.name == name)
            verdict = f"; **{number.verdict}**" if number.deciding else ""
            cells.append("does not vary" if number.estimate is None else f"{number.estimate:+.2f}{verdict}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _names(result: SpaceFindings) -> set[str]:
    return {number.name for number in result.evidence}
