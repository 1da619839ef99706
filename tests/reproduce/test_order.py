"""Whether the paper's order holds: intervals that cover what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from robnet_zoo.reproduce import order
from tests.small_plan import made_result


def test_a_difference_has_welchs_interval_where_images_add_nothing() -> None:
    # Every image is right in the same share of trainings, so all variance is between trainings.
    first = np.array([[1] * 6 + [0] * 4, [1] * 7 + [0] * 3, [1] * 5 + [0] * 5], dtype=float)
    second = np.array([[1] * 3 + [0] * 7, [1] * 4 + [0] * 6, [1] * 4 + [0] * 6], dtype=float)
    means = [0.6, 0.7, 0.5], [0.3, 0.4, 0.4]
    expected = stats.ttest_ind(*means, equal_var=False).confidence_interval(0.95)
    estimate = order.estimated(
        float(np.mean(means[0]) - np.mean(means[1])), [first.mean(1), second.mean(1)], np.zeros(10)
    )
    assert estimate.interval == pytest.approx((expected.low, expected.high))
    with_images = order.difference(first, second)  # the variance between images makes it wider
    assert with_images.interval.low < estimate.interval.low


def test_one_training_alone_has_the_interval_of_its_images() -> None:
    estimate = order.accuracy(np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], dtype=float))
    low, high = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert estimate.interval == pytest.approx((low, high))


@pytest.mark.parametrize("right", [0, 20])
def test_outcomes_that_all_agree_are_as_uncertain_as_their_images(right: int) -> None:
    outcomes = np.array([[1] * right + [0] * (20 - right)] * 3, dtype=float)
    low, high = stats.binomtest(right, 20).proportion_ci(method="wilson")
    assert order.accuracy(outcomes).interval == pytest.approx((low, high))


def test_two_rows_in_which_nothing_varies_are_not_told_apart() -> None:
    def verdict(first: list[list[int]], second: list[list[int]]) -> str:
        difference = order.difference(np.array(first, dtype=float), np.array(second, dtype=float))
        return order.Pair("a", "b", 10.0, difference, trainings=len(second)).verdict

    right, wrong = [[1] * 20] * 3, [[0] * 20] * 3
    assert verdict(right, wrong) == "undecided"
    assert verdict([[1], [1], [1]], [[0], [0], [0]]) == "undecided"
    assert verdict(right, [[1] + [0] * 19] * 3) == "holds"


def test_intervals_cover_what_they_say() -> None:
    # Trainings and images are drawn 400 times: the interval of the difference, 0, misses it about one time in 20.
    draw, missed = np.random.default_rng(0), 0
    for _ in range(400):
        hard = draw.normal(0, 1, 200)  # the same images for both
        both = [(draw.normal(0, 1, (3, 200)) + hard + draw.normal(0, 0.2, (3, 1)) > 0).astype(float) for _ in range(2)]
        estimate = order.difference(*both)
        missed += not estimate.interval.low <= 0 <= estimate.interval.high
    assert 0.005 <= missed / 400 <= 0.08


@pytest.mark.parametrize(
    ("accuracies", "expected"), [((0.2, 0.6), "holds"), ((0.6, 0.2), "does not hold"), ((0.4, 0.401), "undecided")]
)
def test_the_order_is_judged_by_intervals(accuracies: tuple[float, float], expected: str) -> None:
    # In the paper, ResNet-18 is below RobNet-free.
    resnet, robnet = (round(1000 * share) for share in accuracies)
    part = made_result(resnet=resnet, robnet=robnet, n=1000).parts[0]
    (pair,) = order.pairs(part, {"ResNet-18": 45.1, "RobNet-free": 52.57}, "pgd10")
    assert (pair.first, pair.second, pair.verdict) == ("RobNet-free", "ResNet-18", expected)
    assert order.verdict([pair]) == expected
