"""How the numbers of a search are written."""

from __future__ import annotations

import pytest

from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.errors import SearchError
from robnet_zoo.reports.elements import Missing, Remarks, TableCell
from robnet_zoo.reports.search.cells import (
    coefficient,
    in_words,
    or_missing,
    percents,
    points,
    probability,
    search_table,
)

ESTIMATE = IntervalEstimate(value=0.0123, interval=Interval(-0.0094, 0.0351), n=60)


@pytest.mark.parametrize(
    ("write", "text", "detail"),
    [
        (percents, "1.2", "-0.9 – 3.5"),
        (points, "+1.23", "-0.94 – +3.51"),
        (coefficient, "+0.01", "-0.01 – +0.04"),
    ],
)
def test_an_estimate_stands_over_its_interval_and_sorts_by_its_value(write, text, detail):
    cell = write(ESTIMATE)
    assert (cell.text, cell.detail, cell.value) == (text, detail, ESTIMATE.value)
    assert in_words(cell) == f"{text} ({detail})"


def test_no_estimate_is_a_dash_without_an_interval():
    assert in_words(coefficient(None)) == "–"


@pytest.mark.parametrize(("p", "text"), [(0.0124, "0.012"), (0.001, "0.001"), (0.0009, "< 0.001"), (0, "< 0.001")])
def test_small_probabilities_are_only_bounded(p, text):
    assert probability(p) == text


def test_columns_of_a_table_hold_numbers_but_for_those_named():
    table = search_table("t", ("name", "n", "role"), [("a", TableCell("1"), "x")], scale="Scale: s.", texts=(0, 2))
    assert [column.numeric for column in table.columns] == [False, True, False]
    assert [cell.text for cell in table.rows[0].cells] == ["a", "1", "x"]
    assert table.scale == "Scale: s."


def test_what_cannot_be_estimated_is_said_in_its_place():
    def refused():
        raise SearchError("expected 2 or more candidates, got 1")

    assert or_missing("Front", refused) == (Missing("Front", "expected 2 or more candidates, got 1"),)
    assert or_missing("Front", lambda: [Remarks(("fine",))]) == (Remarks(("fine",)),)
