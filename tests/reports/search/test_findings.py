"""The three findings and their verdicts."""

from __future__ import annotations

from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.reports.search.findings import judged_row
from robnet_zoo.search.analysis.findings import Evidence
from tests.reports.search.search_pages import html, verdicts
from tests.search.studies import by_density, by_nothing, made, study


def test_verdicts_are_those_that_were_planted(text):
    assert verdicts(text) == ["holds", "holds", "does not hold"]
    assert verdicts(html([study(made(by_density(-1)), n=60)])) == ["does not hold", "undecided", "undecided"]
    assert verdicts(html([study(made(by_nothing), n=60)])) == ["undecided"] * 3


def test_a_numbers_row_says_how_sure_it_is_and_whether_it_decides():
    estimate = IntervalEstimate(value=0.02, interval=Interval(0.01, 0.03), n=1200)
    correlation = Evidence(name="density", estimate=estimate, verdict="holds")
    gain = Evidence(name="robust accuracy for one more", estimate=estimate, verdict="holds", deciding=False)
    missing = Evidence(name="budgets", verdict="undecided", missing="expected 4, got 3")
    rows = [[(cell.text, cell.detail) for cell in judged_row(each)] for each in (correlation, gain, missing)]
    assert rows == [
        [("density", ""), ("+0.02", "+0.01 – +0.03"), ("1,200", ""), ("holds", ""), ("deciding", "")],
        [
            ("robust accuracy for one more", ""),
            ("+2.00", "+1.00 – +3.00"),
            ("1,200", ""),
            ("holds", ""),
            ("beside it", ""),
        ],
        [("budgets", ""), ("none: expected 4, got 3", ""), ("–", ""), ("undecided", ""), ("deciding", "")],
    ]
