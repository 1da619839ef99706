"""The cells of tables."""

from __future__ import annotations

import pytest

from robnet_zoo.core.statistics import Interval
from robnet_zoo.reports.elements import TableCell, estimate_cell, percent


@pytest.mark.parametrize(
    ("form", "text", "detail"), [(".1%", "52.6", "49.4 – 55.7"), ("+.2f", "+0.53", "+0.49 – +0.56")]
)
def test_an_estimate_is_written_over_its_interval_without_percent_signs(form, text, detail):
    assert estimate_cell(0.526, Interval(0.494, 0.557), form) == TableCell(text, 0.526, detail)


@pytest.mark.parametrize(("share", "text"), [(0.5257, "52.6"), (0, "0.0"), (1, "100.0")])
def test_a_share_is_written_in_percent_to_one_digit(share, text):
    assert percent(share) == text
