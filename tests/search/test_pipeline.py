"""The whole pipeline on digits: supernets, candidates, filter, selection, report; killed at any moment, it resumes."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from robnet_zoo.cli import main
from robnet_zoo.errors import DataError, SearchError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.search import pipeline
from robnet_zoo.search.config import Sandwich, SearchConfig
from robnet_zoo.search.pipeline import Search, run_worker
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.sampling import Sampling
from robnet_zoo.search.selection import best
from tests.processes import PROCESSES, start, start_command
from tests.search.crew import finish
from tests.search.small_search import FULL, config


def figures(folder: Path) -> list[tuple[object, ...]]:
    """Return all candidates without the seconds that they took."""
    return [
        (each.group, each.index, each.codes, each.before, each.after, each.fsp)
        for kind in ("cell_based", "cell_free")
        for each in StudyResult.load(folder / f"{kind}.json").candidates
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed search."""
    folder = tmp_path_factory.mktemp("search")
    run(config(), folder)
    return folder


def run(config: SearchConfig, folder: Path) -> None:
    """Run the whole pipeline by the command."""
    config.save(folder / "given.json")
    main(["search", "run", "--config", str(folder / "given.json"), "--data", "digits", "-o", str(folder)])


def test_results_hold_every_candidate_that_was_asked_for(folder: Path) -> None:
    based, free = (StudyResult.load(folder / f"{kind}.json") for kind in ("cell_based", "cell_free"))
    assert [(each.group, each.index) for each in based.candidates] == [
        *(("uniform", index) for index in range(4)),
        *(("small", index) for index in range(2)),
    ]
    assert all(each.before and each.after and not each.fsp for each in based.candidates)
    assert all(each.before and len(each.fsp) == 3 for each in free.candidates)
    assert [each.index for each in free.candidates] == list(range(5))
    assert based.supernet_accuracy is not None
    assert based.supernet_state_sha256 != free.supernet_state_sha256


def test_those_with_the_lowest_distances_alone_are_finetuned(folder: Path) -> None:
    free = StudyResult.load(folder / "cell_free.json")
    scores = sorted((sum(each.fsp[-2:]) / 2, each.index) for each in free.candidates)
    assert {each.index for each in free.candidates if each.after} == {index for _, index in scores[:2]}


def test_specs_are_the_most_robust_ones_at_full_size_and_say_where_they_are_from(folder: Path) -> None:
    for kind, name, group in (("cell_based", "tiny_small", "small"), ("cell_free", "tiny_free", "uniform")):
        spec, result = Genotype.load(folder / "specs" / f"{name}.json"), StudyResult.load(folder / f"{kind}.json")
        chosen = best(result.group(group))
        assert chosen.after is not None
        assert chosen.after.robust == max(each.after.robust for each in result.group(group) if each.after)
        assert result.space.codes(spec) == chosen.codes
        assert spec.network == FULL
        assert spec.provenance.search == f"tiny/{kind}/{group}/{chosen.index}"
        assert spec.provenance.state_sha256 == result.supernet_state_sha256
        assert f"{chosen.after.robust:.1%} robust" in (spec.provenance.protocol or "")


def test_report_is_written(folder: Path) -> None:
    page = (folder / "report.html").read_text().replace("<wbr>", "")  # where a long name may break
    assert "tiny_small" in page
    assert "tiny_free" in page


def test_finished_search_is_not_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robnet_zoo.search.evaluation.Evaluator.finetune", None)
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    Search(config(), "digits", folder, shown=False).run()
    assert all(path.read_bytes() == text for path, text in before.items())


@pytest.mark.slow  # runs the command again and again
def test_killed_search_resumes_to_the_same_figures(folder: Path, tmp_path: Path) -> None:
    config().save(tmp_path / "tiny.json")
    command = ["search", "run", "--config", str(tmp_path / "tiny.json"), "--data", "digits"]
    command += ["--output", str(tmp_path / "search")]
    generator = random.Random(0)
    moments = (
        "cell_based/supernet/run.json",
        "study.db",
        "cell_free/supernet/checkpoints",
        "cell_free/supernet/model*",
    )
    for moment in moments:  # it is killed a little after each
        process = start_command(*command)
        while not list((tmp_path / "search").glob(moment)):
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.6))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish(start_command(*command), seconds=500)
    assert figures(tmp_path / "search") == figures(folder)


@pytest.mark.slow  # two supernets are trained
def test_two_workers_find_what_one_finds(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("multiprocessing.get_context", lambda method: PROCESSES)  # where workers need not load torch
    Search(config(), "digits", tmp_path, shown=False).run(workers=2)
    assert figures(tmp_path) == figures(folder)


@pytest.mark.slow  # two supernets are trained
def test_worker_in_another_process_does_what_is_left(folder: Path, tmp_path: Path, monkeypatch) -> None:
    search = Search(config(), "digits", tmp_path, shown=False)
    for kind in ("cell_based", "cell_free"):
        search.supernet(kind)
        arguments = (config().dumps(), "digits", str(tmp_path), None, kind)
        finish(start(run_worker, *arguments), seconds=500)
    monkeypatch.setattr("robnet_zoo.search.evaluation.Evaluator.finetune", None)
    search.run()  # nothing is left to finetune
    assert figures(tmp_path) == figures(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 20}, "expected at least 32 images to train on and 40 held out, got 18 and 129"),
        ({"evaluation": {"validation": 200}}, "expected at least 32 images to train on and 200 held out"),
        ({"evaluation": {"calibration": 9}}, "expected at least 288 images to train on and 40 held out, got 180"),
    ],
)
def test_too_few_images_are_an_error_before_any_work(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    whole = config()
    if "evaluation" in changes:
        changes = {"evaluation": whole.evaluation.model_copy(update=changes["evaluation"])}
    with pytest.raises(SearchError, match=message):
        Search(whole.model_copy(update=changes), "digits", tmp_path / "search", shown=False).run()
    assert not (tmp_path / "search").exists()


def test_candidates_that_cannot_be_drawn_are_an_error_before_any_work(tmp_path: Path) -> None:
    branch = config().branches[0]
    impossible = branch.groups[0].model_copy(update={"sampling": Sampling(parameters=(1, 2))})
    without = branch.model_copy(update={"groups": (impossible,), "picks": ()})
    whole = config().model_copy(update={"branches": (without,)})
    with pytest.raises(SearchError):
        Search(whole, "digits", tmp_path / "search", shown=False).run()
    assert not (tmp_path / "search").exists()


def test_number_of_workers_and_kind_of_branch_are_checked_before_any_work(tmp_path: Path) -> None:
    whole = config()
    with pytest.raises(SearchError, match="expected at least 1 worker, got 0"):
        Search(whole, "digits", tmp_path / "search", shown=False).run(workers=0)
    alone = whole.model_copy(update={"branches": whole.branches[:1]})
    with pytest.raises(SearchError, match="tiny: expected a branch of cell_based, got cell_free"):
        Search(alone, "digits", tmp_path / "search", shown=False).work("cell_free")
    assert not (tmp_path / "search").exists()


def test_folder_of_another_search_is_refused(folder: Path) -> None:
    other = config().model_copy(update={"seed": 1})
    with pytest.raises(SearchError, match="expected a folder of this search, got one with another config"):
        Search(other, "digits", folder, shown=False).run()


def test_test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images to train on"):
        Search(config(), f"cifar10-test:{tmp_path}", tmp_path, shown=False).run()


def test_images_that_are_sorted_by_class_are_refused_before_any_work(tmp_path: Path) -> None:
    pixels, labels = np.zeros((400, 8, 8, 3), dtype=np.uint8), np.arange(400) // 40
    np.savez(tmp_path / "sorted.npz", images=pixels, labels=labels)
    with pytest.raises(DataError, match="expected the last tenth, which is held out, to be a random sample"):
        Search(config(), str(tmp_path / "sorted.npz"), tmp_path / "search", shown=False).run()


def test_the_sandwich_of_a_branch_reaches_its_supernet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, seen = Sandwich(random=1), list[object]()
    branch = config().branch("cell_based").model_copy(update={"sandwich": rule})
    search = Search(config().model_copy(update={"branches": (branch,)}), "digits", tmp_path)
    monkeypatch.setattr(pipeline, "train_supernet", lambda *_, sandwich, **__: seen.append(sandwich))
    search.part("cell_based").supernet()
    assert seen == [rule]


def test_worker_without_a_supernet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="expected a trained supernet; `search run` trains it"):
        Search(config(), "digits", tmp_path, shown=False).work("cell_free")


def test_commands_draw_and_pick_from_results(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = [str(folder / f"{kind}.json") for kind in ("cell_based", "cell_free")]
    main(["search", "report", *documents, "-o", str(tmp_path / "page.html")])
    main(["search", "pick", *documents, "-o", str(tmp_path / "specs")])
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "page.html"),
        *(str(tmp_path / "specs" / f"{name}.json") for name in ("tiny_small", "tiny_free")),
    ]
    assert (tmp_path / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    for path in (folder / "specs").glob("*.json"):
        assert (tmp_path / "specs" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow  # a supernet is trained, and seven candidates
def test_candidates_that_optuna_chose_go_the_same_way_to_specs_and_report(tmp_path: Path) -> None:
    branch = config().branches[0]
    groups = [
        {"name": "drawn", "count": 2},
        {"name": "nsga2", "count": 3, "sampler": "nsga2"},
        {"name": "tpe", "count": 2, "sampler": "tpe"},
    ]
    changes = {"groups": groups, "picks": [{"name": "chosen", "group": "nsga2"}]}
    chosen = SearchConfig.parse(config().model_dump() | {"branches": [branch.model_dump() | changes]})
    run(chosen, tmp_path)
    result = StudyResult.load(tmp_path / "cell_based.json")
    for group in groups:
        candidates = result.group(str(group["name"]))
        assert len(candidates) == group["count"]
        assert all(each.after is not None for each in candidates)
    assert Genotype.load(tmp_path / "specs" / "chosen.json").provenance.search.startswith("tiny/cell_based/nsga2/")
    page = (tmp_path / "report.html").read_text()
    assert "Optuna&#39;s TPE for robust accuracy" in page
    assert "chosen by Optuna" in page  # the front distinguishes them from those that were drawn
