"""Intervals and comparisons against published values and closed forms."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from robnet_zoo.core.documents import Document
from robnet_zoo.core.statistics import (
    Interval,
    IntervalEstimate,
    ShareInterval,
    compare,
    compare_pairs,
    proportion,
    together,
    wilson,
    with_interval,
)
from robnet_zoo.errors import DocumentError, StatisticsError


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_all_right_reaches_one():
    assert wilson(50, 50).high == 1.0


def test_the_interval_is_scipys_to_the_last_bit():
    for n in (1, 7, 30, 1000):
        for right in {*range(min(n, 30)), n}:
            assert wilson(right, n) == tuple(binomtest(right, n).proportion_ci(method="wilson"))


def test_a_share_has_wilsons_interval():
    assert proportion(81, 263) == IntervalEstimate(value=81 / 263, interval=wilson(81, 263), n=263)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(StatisticsError, match="expected a share of 1 or more observations, got none"):
        proportion(0, 0)


@pytest.mark.parametrize(
    ("low", "high", "spec", "text"),
    [
        (0.573, 0.634, ".1%", "57.3 – 63.4"),
        (-0.1, 0.25, "+.2f", "-0.10 – +0.25"),
        (0.5, 12.0, "", "0.5 – 12"),
    ],
)
def test_a_format_applies_to_both_ends_of_an_interval(low, high, spec, text):
    assert format(Interval(low, high), spec) == text


def test_an_estimate_is_written_with_its_interval():
    estimate = IntervalEstimate(value=0.604, interval=Interval(0.573, 0.634), n=1000)
    assert f"{estimate:.1%}" == "60.4% (57.3 – 63.4)"
    assert f"{estimate.times(100):.1f}" == "60.4 (57.3 – 63.4)"
    assert str(estimate) == "0.604 (0.573 – 0.634)"


def test_a_share_has_the_same_text_as_its_estimate():
    assert with_interval(0.5, 10) == f"{proportion(5, 10):.1%}" == "50.0% (23.7 – 76.3)"


class Spans(Document):
    share: ShareInterval
    other: Interval


def test_an_interval_is_a_list_in_a_document():
    document = Spans(share=Interval(0.25, 0.5), other=Interval(-1.0, 2.0))
    assert json.loads(document.dumps()) == {"share": [0.25, 0.5], "other": [-1.0, 2.0]}
    again = Spans.loads(document.dumps())
    assert again == document
    assert isinstance(again.share, Interval)
    assert isinstance(again.other, Interval)


@pytest.mark.parametrize(
    ("share", "path"), [([-0.1, 0.5], r"share\[0\]"), ([0.5, 1.1], r"share\[1\]"), ([0.5], r"share\[1\]")]
)
def test_an_interval_of_a_share_lies_within_0_and_1(share, path):
    with pytest.raises(DocumentError, match=path):
        Spans.loads(json.dumps({"share": share, "other": [0.0, 1.0]}))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.3, "holds"),
        (-0.3, -0.1, "does not hold"),
        (-0.1, 0.3, "undecided"),
        (0.0, 0.3, "undecided"),
        (-0.3, 0.0, "undecided"),
    ],
)
def test_a_verdict_follows_from_the_interval(low, high, verdict):
    assert Interval(low, high).verdict == verdict


def test_several_claims_hold_if_all_do_and_fail_if_any_does():
    assert together(["holds", "holds"]) == "holds"
    assert together(["holds", "undecided"]) == "undecided"
    assert together(["holds", "does not hold"]) == "does not hold"
    assert together(["undecided", "does not hold"]) == "does not hold"
    assert together([]) == "undecided"


def test_models_are_compared_on_the_images_that_they_differ_on():
    first, second = (1, 1, 1, 1, 1, 1, 0, 1), (0, 0, 0, 0, 0, 1, 1, 1)
    comparison = compare(first, second)
    assert (comparison.first, comparison.second) == (5, 1)
    assert comparison.p == pytest.approx(2 * (1 + 6) / 2**6)  # two-sided binomial tail of 1 in 6


def test_pairs_are_compared_as_each_pair_is():
    outcomes = np.random.default_rng(0).integers(0, 2, (7, 60)).astype(np.int8)
    outcomes[5] = outcomes[2]
    pairs = [(0, 1), (4, 2), (2, 5), (6, 0)]
    for (first, second), comparison in zip(pairs, compare_pairs(outcomes, pairs), strict=True):
        single = compare(outcomes[first].tolist(), outcomes[second].tolist())
        assert (comparison.first, comparison.second) == (single.first, single.second)
        reference = binomtest(single.first, single.first + single.second).pvalue if single.first else 1.0
        assert comparison.p == single.p == pytest.approx(reference)
    assert compare_pairs(outcomes, []) == []


def test_models_that_never_differ_are_not_distinguished():
    assert compare((1, 0), (1, 0)).p == 1


def test_outcomes_on_other_numbers_of_images_are_refused():
    with pytest.raises(StatisticsError, match="expected outcomes on the same images, got 2 and 1"):
        compare((1, 0), (1,))
