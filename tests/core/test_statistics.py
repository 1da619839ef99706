"""Intervals and comparisons against published values and closed forms."""

import pytest

from robnet_zoo.core.statistics import compare, wilson


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
    assert wilson(50, 50)[1] == 1.0


def test_models_are_compared_on_the_images_that_they_differ_on():
    first, second = (1, 1, 1, 1, 1, 1, 0, 1), (0, 0, 0, 0, 0, 1, 1, 1)
    found = compare(first, second)
    assert (found.first, found.second) == (5, 1)
    assert found.p == pytest.approx(2 * (1 + 6) / 2**6)  # two-sided binomial tail of 1 in 6


def test_models_that_never_differ_are_not_told_apart():
    assert compare((1, 0), (1, 0)).p == 1


def test_outcomes_on_other_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="expected outcomes on the same images, got 2 and 1"):
        compare((1, 0), (1,))
