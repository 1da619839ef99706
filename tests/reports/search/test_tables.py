"""What tables of trained cells say, in lines and side by side."""

from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.reports.search.tables import lines, side_by_side
from robnet_zoo.search.analysis.findings import Evidence
from robnet_zoo.search.analysis.tables import SpaceFindings

KNOWN = Evidence(
    name="density",
    estimate=IntervalEstimate(value=0.5, interval=Interval(0.4, 0.6), n=1000),
    verdict="holds",
)
UNKNOWN = Evidence(name="density", verdict="undecided", missing="expected values that differ")
OTHER = Evidence(name="convolutions", verdict="undecided", missing="expected more", deciding=False)


def space(name: str, *evidence: Evidence) -> SpaceFindings:
    return SpaceFindings(space=name, n=1000, evidence=evidence)


def test_a_line_has_estimate_interval_number_and_verdict_or_the_reason():
    assert list(lines(space("a", KNOWN, OTHER)))[1:] == [
        "  density: +0.50 (+0.40 – +0.60), n = 1,000, holds",
        "  convolutions: none: expected more",
    ]


def test_side_by_side_are_the_numbers_that_all_have():
    head, _, *rows = side_by_side([space("a", KNOWN, OTHER), space("b", UNKNOWN)]).splitlines()
    assert head.endswith("| a, n = 1,000 | b, n = 1,000 |")
    assert rows == ["| density | +0.50 (+0.40 – +0.60); **holds** | does not vary |"]
