"""The table of inherited, finetuned and standalone accuracy."""

from __future__ import annotations

from robnet_zoo.reports.search.standalone import standalone_table
from robnet_zoo.search.result import Accuracy
from tests.search.studies import made, standalone, study


def test_a_table_says_what_was_trained_and_how_the_ranks_agree():
    result = study(made(lambda _, draw: draw.uniform(0.3, 0.6), gain=0.0), n=9)
    table = standalone_table(standalone(result, lambda candidate: candidate.after.robust)).splitlines()
    assert table[0].startswith("9 candidates of `made_up`, cell-based, trained alone for 30 epochs on 1,234 images of ")
    assert table[4].startswith("| inherited and standalone | +0.")
    assert table[5] == "| finetuned and standalone | +1.00 (+0.89 – +1.00) | +1.00 (+0.89 – +1.00) | 9 |"
    assert table[6].endswith(" | 9 |")


def test_a_correlation_that_cannot_be_had_is_a_dash():
    result = study(lambda *_: (Accuracy(clean=0.5, robust=0.25), None, ()), n=5)
    table = standalone_table(standalone(result, lambda _: 0.25)).splitlines()
    assert table[4] == "| inherited and standalone | – | – | – |"
