"""Rankings by cheap scores: correlations with intervals, comparison with the baseline, and runs that are stopped."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robnet_zoo.errors import ArgumentError, DataError, DocumentError, SearchError
from robnet_zoo.search import ranking
from robnet_zoo.search.ranking import RankingResult, RankingSize, bootstrapped, rank_table
from robnet_zoo.search.sampling import Sampling, sample
from tests.search.small_search import images, space

SIZE = RankingSize(channels=2, pixels=8, images=4, draws=1)
CELLS = 10
SCORES = ("parameters", "input_gradient_norm")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of specs whose robust accuracy is their number of convolutions."""
    cells = space("cell_free")
    specs = [cells.genotype(codes, name="cell") for codes in sample(cells, Sampling(), CELLS, seed="table")]
    rows = [
        {"spec": json.loads(spec.dumps()), "robust": spec.direct_convs + spec.skip_convs, "other": index}
        for index, spec in enumerate(specs)
    ]
    path = tmp_path_factory.mktemp("table") / "cells.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def result(table: Path) -> RankingResult:
    return rank_table(table, images(), size=SIZE, scores=SCORES)


def test_what_accuracy_is_made_of_ranks_perfectly_and_a_score_that_falls_is_turned(
    result: RankingResult, table: Path
) -> None:
    rankings = {each.score: each for each in result.rankings}
    assert list(rankings) == ["convolutions", "parameters", "input_gradient_norm"]
    convolutions = rankings["convolutions"]
    assert convolutions.beyond is None
    assert convolutions.spearman is not None
    assert convolutions.kendall is not None
    assert convolutions.spearman.value == pytest.approx(1)
    assert convolutions.kendall.value == pytest.approx(1)
    accuracies = [row["robust"] for row in json.loads(table.read_text())]
    turned = rankings["input_gradient_norm"]
    assert turned.spearman is not None
    assert turned.beyond is not None
    expected = -stats.spearmanr(turned.values, accuracies).statistic
    assert turned.spearman.value == pytest.approx(expected)
    assert turned.beyond.value == pytest.approx(expected - 1)


def test_a_run_that_is_stopped_continues_to_the_same_numbers(
    result: RankingResult, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, calls = ranking._scored, list[Any]()

    def stopped(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return scored(*arguments)

    run = {"size": SIZE, "scores": SCORES, "output": tmp_path / "scores.json"}
    monkeypatch.setattr(ranking, "_scored", stopped)
    with pytest.raises(KeyboardInterrupt):
        rank_table(table, images(), **run)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json.journal"]
    with pytest.raises(DocumentError, match="expected the journal of this run"):
        rank_table(table, images(), **run | {"size": SIZE.model_copy(update={"seed": 1})})  # type: ignore[arg-type]
    rank_table(table, images(), **run)  # type: ignore[arg-type]
    assert len(calls) == CELLS + 1  # four before, the one that was stopped, and the six that were left
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert [each.values for each in RankingResult.load(tmp_path / "scores.json").rankings] == [
        each.values for each in result.rankings
    ]


@pytest.mark.parametrize("kendall", [False, True])
def test_the_interval_is_that_of_scipys_bootstrap(kendall: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 400)
    draw = np.random.default_rng(3)
    x = draw.normal(size=60)
    y = x + draw.normal(size=60)
    correlation = stats.kendalltau if kendall else stats.spearmanr
    other = stats.bootstrap(
        (x, y),
        lambda a, b: correlation(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=np.random.default_rng(4),
    ).confidence_interval
    estimate = bootstrapped(x, y, kendall=kendall)
    assert estimate.value == pytest.approx(correlation(x, y).statistic)
    assert tuple(estimate.interval) == pytest.approx((other.low, other.high), abs=0.05)


def test_a_number_exceeds_itself_by_nothing_and_noise_by_much() -> None:
    x = np.arange(30.0)
    noise = np.array(random.Random(0).sample(range(30), 30), dtype=float)
    assert tuple(bootstrapped(x, x, x, kendall=False).interval) == (0.0, 0.0)
    assert bootstrapped(x, x, noise, kendall=False).interval.verdict == "holds"
    assert bootstrapped(noise, x, x, kendall=False).interval.verdict == "does not hold"


def test_what_cannot_be_ranked_is_one_line(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="scores: unknown score \"gradient_nrm\", did you mean 'gradient_norm'"):
        rank_table(table, images(), scores=["gradient_nrm"])
    with pytest.raises(DataError, match="expected at least 500 images, got 180"):
        rank_table(table, images(), size=SIZE.model_copy(update={"images": 500}))
    few = tmp_path / "few.json"
    few.write_text(json.dumps(json.loads(table.read_text())[:9]))
    with pytest.raises(SearchError, match="expected 10 or more cells, got 9"):
        rank_table(few, images(), size=SIZE)
    digits = tmp_path / "digits.csv"
    digits.write_text("operations,robust\n" + "123123,0.4\n" * 10)
    with pytest.raises(DocumentError, match="expected a column genotype or spec, as modules are built, got operations"):
        rank_table(digits, images(), size=SIZE)
