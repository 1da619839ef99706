"""What was searched and at what scale."""

from __future__ import annotations

import re

import pytest

from robnet_zoo.reports.search.searched import drawn, rule
from robnet_zoo.search.config import CandidateGroup, Filter, Sandwich
from robnet_zoo.search.sampling import Sampling


def test_every_table_says_the_scale_but_that_of_the_differences(text):
    tables = re.findall(r'<figure class="table">.*?</figure>', text, flags=re.DOTALL)
    without = [table for table in tables if "Scale: " not in table]
    assert len(without) == 1
    assert "Where this search differs from the paper" in without[0]
    assert (
        "Scale: cell-based, 4 channels, 6 cells, 32×32 pixels; finetuned 3 epochs on 1,234 images; PGD-7 at 8/255 on "
        "500 held-out images; seed 7, supernet ab12cd34ab12."
    ) in text


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (CandidateGroup(name="a", count=1, sampling=Sampling(budget="small")), "small budget"),
        (
            CandidateGroup(name="a", count=1, sampling=Sampling(density_from=0.5, direct_above=0.5)),
            "density from 0.5, direct edges with convolutions above 0.5",
        ),
        (
            CandidateGroup(name="a", count=1, filter=Filter(threshold=0.006)),
            "cells is at most 0.006",
        ),
    ],
    ids=["budget", "bounds", "filter"],
)
def test_the_bounds_of_a_group_are_said_in_words(group, words):
    assert drawn(group).startswith(group.sampling.kind)
    assert drawn(group).endswith(words)


def test_a_sandwich_is_said_in_words():
    assert rule(None) == ""
    plain = "; each update trains the whole, the smallest and 3 random ones"
    assert rule(Sandwich(random=3, distillation=False)) == plain
    assert rule(Sandwich(random=3)) == f"{plain}, all but the whole taught by the whole"
    assert rule(Sandwich(whole_first=0.4)).startswith("; the first 40% trains the whole, then each update trains the ")
