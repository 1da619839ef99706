"""Jobs: who does them, how long they take, what is left of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.reproduce import jobs, reproduction
from robnet_zoo.reproduce.jobs import claimed
from robnet_zoo.reproduce.reproduction import Reproduction
from robnet_zoo.reproduce.result import ReproductionResult
from tests.small_plan import DIGITS, TINY, taking, tiny_plan


@pytest.mark.usefixtures("short_transfers")
def test_a_source_is_attacked_once_for_all_networks_that_judge(
    finished: tuple[Path, ReproductionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    attacked, real = [], jobs.evaluate_transfer

    def evaluate_transfer(targets: list[Target], source: Target, *arguments: object, **options: object) -> object:
        attacked.append((source.name, [target.name for target in targets]))
        return real(targets, source, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "evaluate_transfer", evaluate_transfer)
    plan = tiny_plan(protocol="table8", sources="all")
    reproduction = Reproduction(plan.model_copy(update={"name": "eight"}), [DIGITS], folder, scale=TINY, seeds=(0, 1))
    (part,) = reproduction.run(progress=False).parts
    labels = ["ResNet-18", "RobNet-free"]
    assert attacked == [
        (f"{source}, seed {1 - seed}", [f"{label}, seed {seed}" for label in labels])
        for seed in (0, 1)
        for source in labels
    ]
    assert [(model.seed, model.label, model.source) for model in part.models] == [
        (seed, label, source) for seed in (0, 1) for label in labels for source in labels
    ]


def test_a_measurement_waits_while_another_process_has_any_of_its_documents(
    finished: tuple[Path, ReproductionResult],
) -> None:
    folder, _ = finished
    plan = tiny_plan(protocol="table8", sources="all")
    measuring = Reproduction(plan, [DIGITS], folder, scale=TINY, seeds=(0, 1)).measurements[0]
    for path in measuring.files:
        with FileLock(path.with_name(f".{path.name}.job")), claimed(measuring) as mine:
            assert not mine
    with claimed(measuring) as mine:
        assert mine


def test_a_transfer_goes_on_without_the_trainings_that_cannot(finished: tuple[Path, ReproductionResult]) -> None:
    folder, _ = finished
    plan = tiny_plan(protocol="table8", sources="all")
    reproduction = Reproduction(plan, [DIGITS], folder, scale=TINY, seeds=(0, 1))
    first, second = reproduction.measurements[:2]
    target, source = first.models[0].folder, first.source
    assert source is not None
    assert first.without({source.folder}) is None
    assert first.without({run.folder for run in first.models}) is None
    for each in (first, second):
        left = each.without({target})
        assert left is not None
        assert (left.models, left.files) == (each.models[1:], each.files[1:])


def test_a_measurement_takes_the_gradients_of_images_that_withstand(tmp_path: Path) -> None:
    (job, _) = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=TINY).measurements
    a_second = taking(hours=0.0, gradient_seconds=1.0)

    def seconds(*attacks: object, n: int = 1) -> float:
        protocol = job.protocol.model_copy(update={"attacks": attacks, "dtype": "float32"})
        return replace(job, protocol=protocol, images=job.images[:n]).seconds(a_second)

    table1, autoattack = load_protocol("table1").attacks, load_protocol("autoattack").attacks
    taken = {attack.title: seconds(attack) for attack in table1}
    assert taken == {"fgsm": 1, "pgd20": 20, "pgd100": 100, "deepfool": 50, "mi_fgsm": 10}
    assert seconds(*table1, n=7) == 7 * 181
    assert seconds(*autoattack) == sum(max(attack.cost(10)) for attack in autoattack) > 7000


def test_the_agenda_counts_what_is_left_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "estimate", lambda *_, **__: taking(hours=1.0, gradient_seconds=0.001))
    scale = TINY.model_copy(update={"epochs": 0.02, "images": 1.0})  # 4 epochs of 9 updates
    work = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=scale)
    job = work.trainings[0]
    assert work.agenda()[0].seconds == pytest.approx(3600)
    (job.folder / "checkpoints").mkdir(parents=True)
    for updates in (9, 18):
        (job.folder / "checkpoints" / f"{updates:010}.pt").touch()
    assert work.agenda()[0].seconds == pytest.approx(1800)
    assert work.agenda()[1].seconds == pytest.approx(0.001 * 21 * 10)
