"""Candidates of a study that are trained on their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.cli import main
from robnet_zoo.data import load
from robnet_zoo.errors import ArgumentError, SearchError
from robnet_zoo.nn.network import Network
from robnet_zoo.search import standalone
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.evaluation import Evaluator
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import Accuracy, Candidate, StandaloneResult, StudyResult
from robnet_zoo.search.standalone import train_standalone
from robnet_zoo.training import Recipe, train
from tests.interruption import interrupt_at
from tests.search.small_search import RECIPE, config

GROUPS = config().branch("cell_based").groups


def study(**changes: object) -> StudyResult:
    """Return a study of digits with made-up accuracies, whose supernet is not needed."""
    space, candidates = config().space("cell_based"), list[Candidate]()
    for group in GROUPS:
        for index, codes in CandidateSet.of_group(config(), "cell_based", group).candidates or ():
            accuracy = Accuracy(clean=0.5 + index / 100, robust=0.25 + index / 100)
            spec = space.genotype(codes, name="candidate")
            candidates.append(
                Candidate(group=group.name, index=index, codes=codes, hash=spec.hash, before=accuracy, after=accuracy)
            )
    given = {
        "config": config(),
        "kind": "cell_based",
        "supernet_state_sha256": "ab" * 32,
        "data": "digits",
        "data_sha256": load("digits", train=True).sha256,
        "training": 64,
        "validation": 40,
        "software": {},
        "device": "none",
        "candidates": tuple(candidates),
    }
    return StudyResult(**{**given, **changes})


def test_each_is_trained_on_the_images_of_the_supernet_and_measured_as_the_search_measures(tmp_path: Path) -> None:
    result = train_standalone(study(), "digits", tmp_path / "alone", count=4, progress=False)
    part = Search(config(), "digits", tmp_path, shown=False).part("cell_based")
    for trained in (result.candidates[0], result.candidates[3]):
        spec = study().spec(trained.candidate)
        network = train(spec, part.split[0], RECIPE, tmp_path / spec.hash, progress=False)
        assert isinstance(network, Network)
        training, held_out = part.split
        evaluator = Evaluator(network, config().evaluation, training, held_out[40:80], seed=config().seed)
        assert trained.standalone == evaluator.measure(network)[0]
    assert [each.candidate for each in result.candidates] == list(study().candidates[:4])
    assert len({each.standalone for each in result.candidates}) > 1
    assert result == StandaloneResult.load(tmp_path / "alone" / "standalone.json")


def test_what_was_begun_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_standalone(study(), "digits", tmp_path / "a", count=4, progress=False)
    updates = 2 * (162 // 32)  # of a candidate
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2 * updates + 7)
        with pytest.raises(KeyboardInterrupt):
            train_standalone(study(), "digits", tmp_path / "b", count=4, progress=False)
    assert len(StandaloneResult.load(tmp_path / "b" / "standalone.json").candidates) == 2
    begun = interrupt_at(monkeypatch, 1000)
    resumed = train_standalone(study(), "digits", tmp_path / "b", count=4, progress=False)
    assert len(begun) < 2 * updates  # an epoch of the third was done before
    assert [each.standalone for each in resumed.candidates] == [each.standalone for each in whole.candidates]
    begun.clear()
    assert train_standalone(study(), "digits", tmp_path / "b", count=4, progress=False) == resumed
    assert begun == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    train_standalone(study(), "digits", tmp_path, count=4, progress=False)
    longer = RECIPE.model_copy(update={"epochs": 3})
    reordered = study(candidates=tuple(reversed(study().candidates)))
    for other, recipe in (
        (study(supernet_state_sha256="cd" * 32), None),
        (study(), longer),
        (reordered, None),
    ):
        with pytest.raises(SearchError, match="expected candidates of this study and recipe, got others; choose"):
            train_standalone(other, "digits", tmp_path, count=4, recipe=recipe, progress=False)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"count": 3}, ArgumentError, "count: expected 4 or more candidates, for a rank correlation, got 3"),
        ({"count": 5}, SearchError, "uniform: expected 5 candidates, got 4"),
        ({"count": 4, "group": "unifrom"}, SearchError, "unknown group \"unifrom\", did you mean 'uniform'?"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(
    given: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        train_standalone(study(), "digits", tmp_path / "alone", **given)  # type: ignore[arg-type]
    assert str(raised.value) == message
    assert not (tmp_path / "alone").exists()


def test_other_images_than_those_of_the_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"^digits: expected the images of the study, sha256 000000000000, got "):
        train_standalone(study(data_sha256="00" * 32), "digits", tmp_path / "alone", count=4)
    assert not (tmp_path / "alone").exists()


def test_images_that_the_search_measured_on_do_not_measure_again(tmp_path: Path) -> None:
    every = config().model_copy(
        update={"evaluation": config().evaluation.model_copy(update={"validation": 110})}
    )  # of 129
    with pytest.raises(SearchError, match=r"expected 20 or more held-out images beside the 110 .* on, got 19"):
        train_standalone(study(config=every), "digits", tmp_path / "alone", count=4)
    assert not (tmp_path / "alone").exists()


def test_the_command_prints_how_well_inherited_accuracy_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study().save(tmp_path / "study.json")
    seen = list[object]()

    def trained(given: StudyResult, *images: object, recipe: Recipe, **chosen: object) -> StandaloneResult:
        seen.append((given, recipe.epochs, chosen["count"]))
        return train_standalone(given, *images, recipe=RECIPE, **chosen)  # type: ignore[arg-type]

    monkeypatch.setattr(standalone, "train_standalone", trained)
    command = ["search", "standalone", str(tmp_path / "study.json"), "--data", "digits", "-o", str(tmp_path / "alone")]
    main([*command, "-n", "4", "--quiet"])
    assert tuple(capsys.readouterr()) == ("", "")
    main([*command, "-n", "4", "--epochs", "5"])
    assert seen == [(study(), 2, 4), (study(), 5, 4)]
    assert "| inherited and standalone | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--epochs", "0"])
    assert "epochs: expected" in capsys.readouterr().err
