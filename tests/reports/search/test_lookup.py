"""The numbers and the picture of searches of a table."""

import pytest

from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.errors import ArgumentError
from robnet_zoo.reports.search.lookup import draw_lookup, lookup_table
from robnet_zoo.search.lookup import LookupResult, Progress


@pytest.fixture
def result():
    best = tuple(IntervalEstimate(value=v, interval=Interval(v - 0.01, v + 0.01), n=5) for v in (0.3, 0.4))
    sizes = {"cells": 6466, "best": 0.44, "seeds": 5, "evaluations": (1, 100)}
    progress = tuple(Progress(method=method, best=best) for method in ("uniform", "tpe"))
    return LookupResult(space="cells", file_sha256="0" * 64, robust="robust", progress=progress, **sizes)


def test_a_row_has_the_best_accuracy_after_each_number_of_evaluations(result):
    head, _, *rows = lookup_table(result).splitlines()
    assert head == "| method | after 1 | after 100 |"
    assert rows[1] == "| tpe | 30.0% (29.0 – 31.0) | 40.0% (39.0 – 41.0) |"


def test_the_picture_names_every_method(result, tmp_path):
    draw_lookup(result, tmp_path / "picture.svg")
    picture = (tmp_path / "picture.svg").read_text()
    assert all(f"<!-- {name} -->" in picture for name in ("uniform", "tpe"))
    with pytest.raises(ArgumentError, match=r"expected a file that ends in \.svg or \.png, got 'picture\.bmp'"):
        draw_lookup(result, tmp_path / "picture.bmp")
