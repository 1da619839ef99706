"""What inherited and finetuned accuracy say about standalone accuracy."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from robnet_zoo.search.analysis import inheritance
from robnet_zoo.search.result import Accuracy
from tests.search.studies import made, standalone, study


def test_correlations_are_those_of_the_same_candidates():
    draw = random.Random(0)
    result = standalone(study(made(lambda *_: draw.uniform(0.2, 0.6)), n=12), lambda _: draw.uniform(0.2, 0.6))
    for by in ("robust", "clean"):
        before, after, alone = (
            [getattr(accuracy, by) for accuracy in column]
            for column in (
                [each.candidate.before for each in result.candidates],
                [each.candidate.after for each in result.candidates],
                [each.standalone for each in result.candidates],
            )
        )
        figure = inheritance(result, by)
        assert figure.inherited.value == pytest.approx(stats.spearmanr(before, alone).statistic)
        assert figure.finetuned.value == pytest.approx(stats.spearmanr(after, alone).statistic)
        assert figure.before_after.value == pytest.approx(stats.spearmanr(before, after).statistic)


def test_candidates_that_were_not_finetuned_count_where_they_can():
    def effect(_, draw):
        before = Accuracy(clean=draw.random(), robust=draw.random())
        return before, (before if draw.random() < 0.5 else None), ()

    result = standalone(study(effect, n=16), lambda candidate: candidate.before.robust)
    done = [each for each in result.candidates if each.candidate.after is not None]
    figure = inheritance(result)
    assert (figure.inherited.value, figure.inherited.n) == (pytest.approx(1), 16)
    assert (figure.finetuned.value, figure.finetuned.n) == (pytest.approx(1), len(done))
    assert 4 <= len(done) < 16


def test_what_does_not_vary_has_no_correlation():
    result = standalone(study(made(lambda _, draw: draw.random()), n=8), lambda _: 0.3)
    assert inheritance(result).inherited is None
    assert inheritance(result).before_after is not None
