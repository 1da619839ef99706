"""The table of rankings by cheap scores."""

import pytest

from robnet_zoo.core.statistics import Interval, IntervalEstimate
from robnet_zoo.reports.search.scores import score_summary, score_table
from robnet_zoo.search.ranking import Ranking, RankingResult, RankingSize


def estimate(value):
    return IntervalEstimate(value=value, interval=Interval(value - 0.125, value + 0.125), n=10)


BASELINE = Ranking(score="convolutions", rising=True, spearman=estimate(0.5), seconds=0, values=())
FACTS = {"space": "a", "file_sha256": "0", "robust": "robust", "n": 10, "size": RankingSize(), "seconds": 90}
FACTS |= {"data": "digits", "data_sha256": "0", "software": {}}


def result(spearman, beyond):
    figures = {"spearman": estimate(spearman), "kendall": estimate(0.125), "beyond": estimate(beyond)}
    other = Ranking(score="fsp_distance", rising=False, seconds=90, values=(), **figures)
    return RankingResult(rankings=(BASELINE, other), **FACTS)


def test_a_row_says_whether_a_score_beats_the_number_of_convolutions():
    rows = score_table(result(0.25, -0.25)).splitlines()
    assert rows[2] == "| convolutions | +0.50 (+0.38 – +0.62) | – | – | – | 0.0 |"
    assert rows[3].startswith("| -fsp_distance | +0.25 (+0.12 – +0.38) | +0.12 (+0.00 – +0.25) | -0.25 (-0.38 – -0.12)")
    assert rows[3].endswith("| no, below | 1.5 |")


@pytest.mark.parametrize(
    ("spearman", "beyond", "words"),
    [
        (0.75, 0.25, "above convolutions: fsp_distance; below convolutions: none; undecided: none; against"),
        (0.25, -0.25, "above convolutions: none; below convolutions: fsp_distance; undecided: none; against"),
        (0.5, 0.0, "below convolutions: none; undecided: fsp_distance; against their direction: none."),
        (-0.5, -1.0, "undecided: none; against their direction: fsp_distance."),
    ],
)
def test_the_line_says_what_beats_the_baseline_and_what_ranks_against_its_direction(spearman, beyond, words):
    line = score_summary(result(spearman, beyond))
    assert line.startswith("10 architectures in 2 minutes; ")
    assert words in line
