"""The figures of a search where candidates or measurements are too few for them."""

from __future__ import annotations

import re

import pytest

from robnet_zoo.search.result import Accuracy
from tests.reports.search.search_pages import html, verdicts
from tests.search.studies import SMALL, by_density, made, study


@pytest.mark.parametrize("kind", ["cell_based", "cell_free"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_candidates_give_a_page_that_says_what_is_missing(kind, n):
    text = html([study(made(by_density(1)), n=n, kind=kind)])
    assert verdicts(text) == ["undecided"] * 3
    assert re.search(r"Not shown: expected \d+ or more .*candidates.*, got \d\.", text)


def test_candidates_without_measurements_give_a_page():
    text = html([study(lambda spec, draw: (None, None, ()), n=30), study(_alike, n=30, kind="cell_free")])
    assert verdicts(text) == ["undecided"] * 3
    assert "expected values that differ, got the same one of all 30 candidates" in text


def _alike(spec, draw):
    same = Accuracy(clean=0.5, robust=0.3)
    return same, same, (0.1,) * SMALL.depth
