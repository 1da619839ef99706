"""Rankings by cheap scores: correlations with intervals, comparison with the baseline, and runs that are stopped."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from scipy import stats

from robnet_zoo import data
from robnet_zoo.cli import main
from robnet_zoo.errors import ArgumentError, DataError, DocumentError, SearchError
from robnet_zoo.nn.compiler import compile, subnetwork
from robnet_zoo.search import ranking
from robnet_zoo.search.ranking import RankingResult, RankingSize, bootstrapped, rank_study, rank_table
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.sampling import Sampling, sample
from robnet_zoo.search.scores import Scoring, input_gradient_norm
from robnet_zoo.zoo.weights import state_sha256
from tests.search import studies
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


def stop_at_the_fifth(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Interrupt the scoring of the fifth architecture; return the arguments of all that are begun."""
    scored, calls = ranking._scored, list[Any]()

    def stopped(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return scored(*arguments)

    monkeypatch.setattr(ranking, "_scored", stopped)
    return calls


def test_a_run_that_is_stopped_continues_to_the_same_numbers(
    result: RankingResult, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"size": SIZE, "scores": SCORES, "output": tmp_path / "scores.json"}
    calls = stop_at_the_fifth(monkeypatch)
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


@pytest.fixture
def study(tmp_path: Path) -> StudyResult:
    """Return a study whose finetuned robust accuracy grows with density, written beside its supernet."""
    result = studies.study(studies.made(studies.by_density(1, noise=0)), n=12)
    (tmp_path / "supernet").mkdir()
    supernet = compile(result.space.supernet())
    save_file(dict(supernet.state_dict()), tmp_path / "supernet" / "model.safetensors")
    result = result.model_copy(update={"supernet_state_sha256": state_sha256(supernet.state_dict())})
    result.save(tmp_path / "study.json")
    return result


def values(result: RankingResult, score: str) -> tuple[float, ...]:
    (ranking,) = (each for each in result.rankings if each.score == score)
    return ranking.values


def test_candidates_are_scored_at_the_weights_that_they_inherit(study: StudyResult, tmp_path: Path) -> None:
    run = {"count": 4, "scores": SCORES}
    path, supernet = tmp_path / "study.json", tmp_path / "supernet"
    inherited = rank_study(path, images(), supernet=supernet, **run)  # type: ignore[arg-type]
    assert (inherited.space, inherited.robust, inherited.n) == ("study", "finetuned", 12)
    assert inherited.supernet_state_sha256 == study.supernet_state_sha256
    assert (inherited.size.channels, inherited.size.pixels) == (4, 32)
    whole = compile(study.space.supernet())
    whole.load_state_dict(load_file(supernet / "model.safetensors"))
    norms, expected = values(inherited, "input_gradient_norm"), []
    pictures, labels = data.resized(images()[:4], 32).batch(slice(4))
    for candidate in study.candidates:
        network = subnetwork(whole, study.spec(candidate))
        expected.append(input_gradient_norm(Scoring(network, pictures, labels, 8 / 255)))
    assert norms == pytest.approx(expected, rel=1e-4)
    of_the_file = rank_study(path, images(), supernet=supernet / "model.safetensors", **run)  # type: ignore[arg-type]
    assert values(of_the_file, "input_gradient_norm") == norms
    random_weights = rank_study(path, images(), **run)  # type: ignore[arg-type]
    assert random_weights.supernet_state_sha256 is None
    assert values(random_weights, "parameters") == values(inherited, "parameters")
    assert values(random_weights, "input_gradient_norm") != norms


def test_the_command_ranks_a_study_and_goes_on_only_with_the_same_weights(
    study: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--data", "digits", "--images", "4", "--scores", "parameters"]
    words = ["search", "score", "study.json", *given, "-o", "scores.json"]
    calls = stop_at_the_fifth(monkeypatch)
    with pytest.raises(SystemExit):
        main(words)
    with pytest.raises(SystemExit):
        main([*words, "--supernet", "supernet"])
    assert "expected the journal of this run" in capsys.readouterr().err
    main(words)
    assert len(calls) == 12 + 1
    assert "12 architectures in 0 minutes" in capsys.readouterr().out
    assert RankingResult.load("scores.json").n == len(study.candidates)


def test_what_is_no_study_with_its_supernet_is_one_line(study: StudyResult, tmp_path: Path) -> None:
    path, supernet = tmp_path / "study.json", tmp_path / "supernet"
    with pytest.raises(ArgumentError, match="draws: expected 1 of inherited weights, got 2"):
        rank_study(path, images(), supernet=supernet, draws=2)
    with pytest.raises(SearchError, match=r"nowhere: expected the weights of a supernet, got: "):
        rank_study(path, images(), supernet=tmp_path / "nowhere")
    study.model_copy(update={"supernet_state_sha256": "0" * 64}).save(path)
    with pytest.raises(SearchError, match="expected the study's supernet, state sha256 000000000000, got "):
        rank_study(path, images(), supernet=supernet)
    left = [each.model_copy(update={"after": None}) for each in study.candidates[3:]]
    study.model_copy(update={"candidates": (*study.candidates[:3], *left)}).save(path)
    with pytest.raises(SearchError, match="expected 10 or more finetuned candidates, got 3"):
        rank_study(path, images())
