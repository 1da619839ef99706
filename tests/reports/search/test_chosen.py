"""The table of the candidates that were written as specs."""

from robnet_zoo.reports.search.chosen import cells_table
from robnet_zoo.search.cells import CellIndex


def test_a_row_has_accuracies_in_percent_and_a_dash_for_what_is_unknown():
    cell = {"file": "a.json", "kind": "cell_free", "group": "a", "index": 3, "hash": "0", "seconds": 1.0}
    sizes = {"parameters": 4_359_574, "multiply_adds": 1, "density": 0.5, "convolutions": 7}
    index = {"search": "small", "by": "clean", "network": "full", "cells": [cell | sizes | {"clean": 0.374}]}
    assert cells_table(CellIndex.parse(index)).splitlines()[2] == "| a.json | – | 37.4% | – | – | 4,359,574 | 0.50 |"
