"""The paper's own numbers beside those of a search."""

from __future__ import annotations

import re

from robnet_zoo.reports.search.paper import differences
from tests.search.studies import by_nothing, made, study


def test_papers_numbers_stand_beside_as_the_papers(page):
    for number in ("98.7 %", "50.3 %", "0.006", "68 of 300"):
        assert re.search(rf"The paper: [^<]{{0,300}}{re.escape(number)}", page.text), number


def test_the_pairs_that_density_is_over_are_those_of_the_search():
    four = study(made(by_nothing), n=1)
    three = four.model_copy(update={"config": four.config.model_copy(update={"nodes": 3}), "candidates": ()})
    for results, pairs in (([four], "28"), ([three], "18"), ([four, three], "28 or 18")):
        (table,) = differences(results).elements
        (row,) = (row for row in table.rows if row.cells[0].text == "density")
        assert row.cells[2].text == f"over the {pairs} pairs of edge and operation: up to 1"
