"""Reproductions: work is done once, shared between processes and resumed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robnet_zoo import data
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.cli import main
from robnet_zoo.errors import DocumentError, ReproduceError, TrainingError
from robnet_zoo.reports.reproduce import write
from robnet_zoo.reproduce.jobs import MeasuringJob, TrainingJob
from robnet_zoo.reproduce.plan import PlanRow
from robnet_zoo.reproduce.reproduction import Reproduction, Source
from robnet_zoo.reproduce.result import ReproductionResult
from robnet_zoo.reproduce.scale import Scale
from tests.processes import start_command
from tests.small_plan import COMMAND, DIGITS, TINY, tiny_plan


def test_every_row_is_trained_with_every_seed_and_measured(finished: tuple[Path, ReproductionResult]) -> None:
    folder, result = finished
    assert result.complete
    assert result == ReproductionResult.load(folder / "trial.tiny.json")
    (part,) = result.parts
    assert [(model.label, model.seed) for model in part.models] == [
        ("ResNet-18", 0), ("RobNet-free", 0), ("ResNet-18", 1), ("RobNet-free", 1),
    ]  # fmt: skip
    assert len({model.state_sha256 for model in part.models}) == 4
    assert part.size == 16
    assert part.training.n == round(0.12 * 1297)
    documents = [Result.load(path) for path in (folder / "results").glob("*.quick.*.json")]
    assert len(documents) == 4
    for model in part.models:
        (document,) = [each for each in documents if each.model.state_sha256 == model.state_sha256]
        assert document.model.name == f"{model.label}, seed {model.seed}"
        for each in model.outcomes:
            assert each.bits == list(document.measurement(each.attack).correct)


def test_the_same_again_trains_and_measures_nothing(
    finished: tuple[Path, ReproductionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished
    for kind in (TrainingJob, MeasuringJob):
        monkeypatch.setattr(kind, "do", lambda *_, **__: pytest.fail("nothing is left to do"))
    again = Reproduction(tiny_plan(), [DIGITS], folder, scale=TINY, seeds=(0, 1))
    assert all(line.done and not line.seconds for line in again.agenda())
    assert again.run(progress=False) == result


@pytest.mark.usefixtures("short_transfers")
def test_another_plan_takes_over_what_is_trained(finished: tuple[Path, ReproductionResult]) -> None:
    folder, _ = finished
    plan = tiny_plan(protocol="table2", sources="copy").model_copy(update={"name": "other"})
    reproduction = Reproduction(plan, [DIGITS], folder, scale=TINY, seeds=(0, 1))
    done = {type(line.job): line.done for line in reproduction.agenda()}
    assert done == {TrainingJob: True, MeasuringJob: False}
    (part,) = reproduction.run(progress=False).parts
    assert [(model.label, model.source, model.seed) for model in part.models][:2] == [
        ("ResNet-18", "ResNet-18", 0), ("RobNet-free", "RobNet-free", 0),
    ]  # fmt: skip
    for measuring in reproduction.measurements:
        ((run, result),) = measuring.finished
        assert result.source is not None
        assert result.source.name == f"{run.row.label}, seed {1 - run.seed}"
        assert result.source.state_sha256 != result.model.state_sha256


def test_one_seed_alone_trains_a_copy_of_the_next_for_a_transfer(tmp_path: Path) -> None:
    reproduction = Reproduction(tiny_plan(protocol="table8", sources="all"), [DIGITS], tmp_path, scale=Scale(size=0.5))
    assert [(run.row.label, run.seed) for run in reproduction.trainings] == [
        ("ResNet-18", 0), ("RobNet-free", 0), ("ResNet-18", 1), ("RobNet-free", 1),
    ]  # fmt: skip
    pairs = [(run.name, each.source.name) for each in reproduction.measurements if each.source for run in each.models]
    assert len(pairs) == 4
    assert all(target.endswith("seed 0") and source.endswith("seed 1") for target, source in pairs)
    order_of = [job.name for job in reproduction.jobs]
    assert order_of.index("RobNet-free, seed 1") < order_of.index("2 networks through RobNet-free, seed 1: table8")


def test_a_model_from_elsewhere_stands_beside_or_a_note_says_why_not(
    finished: tuple[Path, ReproductionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = finished
    monkeypatch.setitem(sys.modules, "robustbench", None)
    beside = ("robnet_micro.digits", "robustbench:Carmon2019Unlabeled", "no_such_model")
    reproduction = Reproduction(tiny_plan(), [DIGITS], folder, scale=TINY, seeds=(0, 1), beside=beside)
    result = reproduction.run(progress=False)
    assert result.parts[0].models[:4] == before.parts[0].models
    assert len(reproduction.notes) == 3  # at half the size of images robnet_micro is refused too
    assert "expected the package robustbench" in reproduction.notes[1]


def test_a_model_from_elsewhere_is_measured_on_whole_images(tmp_path: Path) -> None:
    plan = tiny_plan(rows=(PlanRow(label="ResNet-18", architecture="resnet18_cifar", paper=45.1),))
    scale = TINY.model_copy(update={"size": 1.0})
    result = Reproduction(plan, [DIGITS], tmp_path, scale=scale, beside=("robnet_micro.digits",)).run(progress=False)
    elsewhere = result.parts[0].models[-1]
    assert (elsewhere.label, elsewhere.seed, elsewhere.parameters) == ("robnet_micro.digits", None, 102_246)
    clean = elsewhere.under("clean")
    assert clean is not None
    assert sum(clean.bits) > 0.9 * len(clean.bits)


def test_a_training_that_fails_is_left_out_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingJob.do

    def do(self: TrainingJob, *, progress: bool) -> None:
        if self.row.label == "ResNet-18":
            raise TrainingError("expected a finite loss, got nan")
        real(self, progress=progress)

    monkeypatch.setattr(TrainingJob, "do", do)
    reproduction = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=TINY)
    result = reproduction.run(progress=False)
    assert not result.complete
    assert [model.label for model in result.parts[0].models] == ["RobNet-free"]
    assert reproduction.notes == ["left out: ResNet-18, seed 0: expected a finite loss, got nan"]
    write(result, tmp_path / "report.html")
    assert "Not complete" in (tmp_path / "report.html").read_text()


def test_a_plan_that_could_only_fail_later_is_refused_at_once(tmp_path: Path) -> None:
    wrong = {
        "order_by: expected one of clean, fgsm, pgd10, pgd10_margin, got pgd7": tiny_plan().model_copy(
            update={"order_by": "pgd7"}
        ),
        "expected sources for a transfer": tiny_plan(protocol="table8"),
        "expected images of svhn here, got cifar10-train:data": tiny_plan(data="svhn"),
    }
    for message, plan in wrong.items():
        source = Source("cifar10-train:data", "cifar10-test:data") if "svhn" in message else DIGITS
        with pytest.raises(ReproduceError, match=message):
            Reproduction(plan, [source], tmp_path)


def test_other_test_images_are_measured_anew(finished: tuple[Path, ReproductionResult], tmp_path: Path) -> None:
    folder, _ = finished
    images = data.digits()[1]
    np.savez(tmp_path / "other.npz", images=images.pixels.permute(0, 2, 3, 1).flip(0), labels=images.labels.flip(0))
    other = Source("digits", str(tmp_path / "other.npz"))
    reproduction = Reproduction(tiny_plan(), [other], folder, scale=TINY, seeds=(0, 1))
    assert {type(line.job): line.done for line in reproduction.agenda()} == {TrainingJob: True, MeasuringJob: False}


def test_a_share_of_images_that_are_sorted_by_class_is_refused(tmp_path: Path) -> None:
    images = data.digits()[0]
    order = images.labels.argsort(stable=True)
    pixels, labels = images.pixels.permute(0, 2, 3, 1)[order], images.labels[order]
    np.savez(tmp_path / "sorted.npz", images=pixels, labels=labels)
    source = Source(str(tmp_path / "sorted.npz"), "digits")
    with pytest.raises(
        data.DataError, match=r"sorted\.npz: expected the first 156 images, the share of the scale, to be"
    ):
        Reproduction(tiny_plan(), [source], tmp_path, scale=TINY).agenda()


def test_what_cannot_be_carried_out_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReproduceError, match="trial: expected images of digits, to train and to test, got 2"):
        Reproduction(tiny_plan(), [DIGITS, DIGITS], tmp_path)
    with pytest.raises(ReproduceError, match="expected seeds that differ, got 1, 1"):
        Reproduction(tiny_plan(), [DIGITS], tmp_path, seeds=(1, 1))
    too_small = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=Scale(size=0.05))
    with pytest.raises(DocumentError, match="robnet_free: expected a size"):
        too_small.agenda()
    with pytest.raises(data.DataError, match="nowhere"):
        Reproduction(tiny_plan(), [Source("nowhere", "digits")], tmp_path).agenda()


def without_times(path: Path) -> dict[str, object]:
    text = json.loads(path.read_text())
    for part in text["parts"]:
        for model in part["models"]:
            model.pop("hours")
    return text


def test_killed_and_shared_work_gives_the_undisturbed_document(tmp_path: Path) -> None:
    # Two processes share one folder and one of them is killed; the document is that of a process alone.
    main([*COMMAND, "-o", str(tmp_path / "alone")])
    shared, errors = [*COMMAND, "-o", tmp_path / "shared"], tmp_path / "errors.txt"
    errors.touch()
    first = start_command(*shared, errors=errors)
    while "[1/" not in errors.read_text():  # until it is in the middle of something
        assert first.is_alive()
        time.sleep(0.01)
    second = start_command(*shared)
    time.sleep(1)
    first.kill()
    first.join()
    second.join(timeout=300)
    assert (first.exitcode, second.exitcode) == (-signal.SIGKILL, 0)
    (shared_document,) = (tmp_path / "shared").glob("table1.own-*.json")
    assert without_times(shared_document) == without_times(tmp_path / "alone" / shared_document.name)
