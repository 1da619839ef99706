"""The paper's tables as plans: what they ask for, at which scale, that work is done once, whether the order holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from scipy import stats

from robnet_zoo import data
from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.cli import main
from robnet_zoo.errors import DocumentError, ReportError, ReproduceError, TrainingError
from robnet_zoo.reports.reproduce.drawings import against_parameters, against_steps
from robnet_zoo.reports.reproduce.page import write
from robnet_zoo.reports.robustness.published import published
from robnet_zoo.reproduce import order, work
from robnet_zoo.reproduce.plan import Part, Plan, Row, load_plan, plan_names
from robnet_zoo.reproduce.result import Outcomes, Reproduced
from robnet_zoo.reproduce.scale import Scale, load_scale, scale_names
from robnet_zoo.reproduce.speed import Speed
from robnet_zoo.reproduce.work import Measuring, Reproduction, Run, Source
from robnet_zoo.training import Stage, load_recipe
from robnet_zoo.zoo.architecture import costs, load_architecture

DIGITS = Source("digits", "digits")
TINY = Scale(name="tiny", width=0.05, depth=0.1, size=0.5, epochs=0.01, images=0.2, test_images=0.04, eps="2")


def tiny_plan(**part: object) -> Plan:
    rows = (
        Row(label="ResNet-18", architecture="resnet18_cifar", paper=45.1),
        Row(label="RobNet-free", architecture="robnet_free", paper=52.57),
    )
    of = {"data": "digits", "recipe": "paper", "protocol": "pgd100", "rows": rows} | part
    return Plan(name="trial", title="A trial", order_by="pgd100", parts=(Part.parse(of),))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reproduced]:
    folder = tmp_path_factory.mktemp("reproduced")
    scale = TINY.model_copy(update={"eps": "1"})
    return folder, Reproduction(tiny_plan(), [DIGITS], folder, scale=scale, seeds=(0, 1)).run(progress=False)


# Plans


def test_there_is_a_plan_for_every_table_and_figure() -> None:
    assert plan_names() == sorted(
        ["table1", "table2", "table3", "table4", "table6", "table7", "table8", "figure1", "figure10"]
    )


@pytest.mark.parametrize("name", plan_names())
def test_what_a_plan_names_is_there(name: str) -> None:
    for part in load_plan(name).parts:
        protocol = load_protocol(part.protocol)
        load_recipe(part.recipe)
        assert (protocol.threat == "transfer") == (part.sources is not None)
        assert load_plan(name).order_by in [attack.title for attack in protocol.attacks]
        for row in part.rows:
            assert costs(row.published).parameters > 1e6


@pytest.mark.parametrize(
    ("name", "number"), [("table1", 1), ("table2", 2), ("table6", 6), ("table7", 7), ("figure1", 7)]
)
def test_rows_and_figures_are_those_of_the_paper(name: str, number: int) -> None:
    table = published().table(number)
    column = [each.label for each in table.columns].index("PGD-100")
    (part,) = load_plan(name).parts
    assert {row.label: row.paper for row in part.rows} == {row.model: row.values[column] for row in table.rows}


@pytest.mark.parametrize("name", ["table1", "table6", "table7"])
def test_rows_have_the_papers_parameters_within_two_hundredths(name: str) -> None:
    printed = {row.model: row.parameters for row in published().table(int(name[-1])).rows}
    for row in load_plan(name).parts[0].rows:
        count = costs(row.published).parameters
        if name == "table6" and row.label.startswith("ResNet"):  # whose head the paper leaves out
            count -= 2048 * 1000 + 1000
        assert count / 1e6 == pytest.approx(printed[row.label], rel=0.02), row.label


def test_rows_can_be_chosen_by_the_papers_names() -> None:
    plan = load_plan("table1").of(["resnet-18", "RobNet-free"])
    assert [row.label for row in plan.parts[0].rows] == ["ResNet-18", "RobNet-free"]
    with pytest.raises(ValueError, match=r"table1: expected rows among ResNet-18, .*, got ResNet-19"):
        load_plan("table1").of(["ResNet-19"])


# Scale


def test_every_bundled_scale_says_what_it_is() -> None:
    assert scale_names() == ["full", "small"]
    assert load_scale("full").whole
    assert str(load_scale("full")) == "At full scale."
    said = str(load_scale("small"))
    for key, value in load_scale("small").fractions.items():
        assert f"{key} {value}" in said


def test_full_scale_changes_nothing_but_seed_and_number_of_images() -> None:
    scale, recipe, protocol = Scale(), load_recipe("paper"), load_protocol("table1")
    assert scale.recipe(recipe, seed=3) == recipe.model_copy(update={"seed": 3})
    assert scale.protocol(protocol, n=7) == protocol.model_copy(update={"n": 7})
    spec = load_architecture("robnet_free")
    assert scale.architecture(spec).hash == spec.hash


def test_a_fraction_is_taken_of_epochs_milestones_sizes_and_eps() -> None:
    scale = Scale(epochs=0.05, size=0.5, eps="1/2")
    recipe = scale.recipe(load_recipe("paper"), seed=0)
    assert (recipe.epochs, recipe.schedule.milestones) == (10, (5.0, 7.5))
    assert (Fraction(recipe.attack.eps), Fraction(recipe.attack.step)) == (Fraction(4, 255), Fraction(1, 255))
    stages = (Stage(size=16, epochs=4), Stage(size=24, epochs=4))
    fast = load_recipe("fast").model_copy(update={"epochs": 11, "stages": stages})
    for share, expected in ((0.5, [(8, 2), (12, 2)]), (0.05, []), (0.2, [(8, 1), (12, 1)])):
        found = Scale(epochs=share, size=0.5).recipe(fast, seed=0)
        assert [(stage.size, stage.epochs) for stage in found.stages] == expected
    protocol = scale.protocol(load_protocol("table1"), n=10)
    assert Fraction(protocol.eps) == Fraction(4, 255)
    assert {Fraction(attack.step) for attack in protocol.attacks if hasattr(attack, "step")} == {Fraction(1, 255)}


@pytest.mark.parametrize("wrong", [{"width": 0}, {"epochs": 1.5}, {"eps": "0"}, {"eps": "half"}, {"colour": 1}])
def test_a_scale_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match=next(iter(wrong))):
        Scale.parse(wrong)


# Work


def test_every_row_is_trained_with_every_seed_and_measured(finished: tuple[Path, Reproduced]) -> None:
    folder, result = finished
    assert result.complete
    assert result == Reproduced.load(folder / "trial.tiny.json")
    (part,) = result.parts
    assert [(model.label, model.seed) for model in part.models] == [
        ("ResNet-18", 0), ("RobNet-free", 0), ("ResNet-18", 1), ("RobNet-free", 1),
    ]  # fmt: skip
    assert len({model.state_sha256 for model in part.models}) == 4
    assert part.size == 16
    assert part.training.n == round(0.2 * 1297)
    documents = [Result.load(path) for path in (folder / "results").glob("*.json")]
    assert len(documents) == 4
    for model in part.models:
        (found,) = [each for each in documents if each.model.state_sha256 == model.state_sha256]
        assert found.model.name == f"{model.label}, seed {model.seed}"
        for each in model.outcomes:
            assert each.bits == list(found.measurement(each.attack).correct)


def test_the_same_again_trains_and_measures_nothing(
    finished: tuple[Path, Reproduced], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished
    for kind in (Run, Measuring):
        monkeypatch.setattr(kind, "do", lambda *_, **__: pytest.fail("nothing is left to do"))
    scale = TINY.model_copy(update={"eps": "1"})
    again = Reproduction(tiny_plan(), [DIGITS], folder, scale=scale, seeds=(0, 1))
    assert all(line.done and not line.seconds for line in again.agenda())
    assert again.run(progress=False) == result


def test_another_plan_takes_over_what_is_trained(finished: tuple[Path, Reproduced]) -> None:
    folder, _ = finished
    plan = tiny_plan(protocol="table2", sources="copy").model_copy(update={"name": "other"})
    scale = TINY.model_copy(update={"eps": "1"})
    reproduction = Reproduction(plan, [DIGITS], folder, scale=scale, seeds=(0, 1))
    done = {type(line.job): line.done for line in reproduction.agenda()}
    assert done == {Run: True, Measuring: False}
    (part,) = reproduction.run(progress=False).parts
    assert [(model.label, model.source, model.seed) for model in part.models][:2] == [
        ("ResNet-18", "ResNet-18", 0), ("RobNet-free", "RobNet-free", 0),
    ]  # fmt: skip
    for measuring in reproduction.measurings:
        ((run, found),) = measuring.finished
        assert found.source is not None
        assert found.source.name == f"{run.row.label}, seed {1 - run.seed}"
        assert found.source.state_sha256 != found.model.state_sha256


def test_one_seed_alone_trains_a_copy_of_the_next_for_a_transfer(tmp_path: Path) -> None:
    reproduction = Reproduction(tiny_plan(protocol="table8", sources="all"), [DIGITS], tmp_path, scale=Scale(size=0.5))
    assert [(run.row.label, run.seed) for run in reproduction.runs] == [
        ("ResNet-18", 0), ("RobNet-free", 0), ("ResNet-18", 1), ("RobNet-free", 1),
    ]  # fmt: skip
    pairs = [(run.name, each.source.name) for each in reproduction.measurings if each.source for run in each.runs]
    assert len(pairs) == 4
    assert all(target.endswith("seed 0") and source.endswith("seed 1") for target, source in pairs)
    order_of = [job.name for job in reproduction.jobs]
    assert order_of.index("RobNet-free, seed 1") < order_of.index("2 networks through RobNet-free, seed 1: table8")


def test_a_source_is_attacked_once_for_all_networks_that_judge(
    finished: tuple[Path, Reproduced], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    attacked, real = [], work.evaluate_transfer

    def evaluate_transfer(targets: list[Target], source: Target, *arguments: object, **options: object) -> object:
        attacked.append((source.name, [target.name for target in targets]))
        return real(targets, source, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "evaluate_transfer", evaluate_transfer)
    plan, scale = tiny_plan(protocol="table8", sources="all"), TINY.model_copy(update={"eps": "1"})
    reproduction = Reproduction(plan.model_copy(update={"name": "eight"}), [DIGITS], folder, scale=scale, seeds=(0, 1))
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


def test_a_measurement_waits_while_another_process_has_any_of_its_documents(finished: tuple[Path, Reproduced]) -> None:
    folder, _ = finished
    plan, scale = tiny_plan(protocol="table8", sources="all"), TINY.model_copy(update={"eps": "1"})
    measuring = Reproduction(plan, [DIGITS], folder, scale=scale, seeds=(0, 1)).measurings[0]
    for path in measuring.paths:
        with FileLock(path.with_name(f".{path.name}.job")), work._claimed(measuring) as mine:
            assert not mine
    with work._claimed(measuring) as mine:
        assert mine


def test_a_transfer_goes_on_without_the_trainings_that_cannot(finished: tuple[Path, Reproduced]) -> None:
    folder, _ = finished
    plan, scale = tiny_plan(protocol="table8", sources="all"), TINY.model_copy(update={"eps": "1"})
    reproduction = Reproduction(plan, [DIGITS], folder, scale=scale, seeds=(0, 1))
    first, second = reproduction.measurings[:2]
    target, source = first.runs[0].folder, first.source
    assert source is not None
    assert first.without({source.folder}) is None
    assert first.without({run.folder for run in first.runs}) is None
    for each in (first, second):
        left = each.without({target})
        assert left is not None
        assert (left.runs, left.paths) == (each.runs[1:], each.paths[1:])


def test_a_model_from_elsewhere_stands_beside_or_a_note_says_why_not(
    finished: tuple[Path, Reproduced], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = finished
    monkeypatch.setitem(sys.modules, "robustbench", None)
    scale = TINY.model_copy(update={"eps": "1"})
    beside = ("robnet_micro.digits", "robustbench:Carmon2019Unlabeled", "no_such_model")
    reproduction = Reproduction(tiny_plan(), [DIGITS], folder, scale=scale, seeds=(0, 1), beside=beside)
    result = reproduction.run(progress=False)
    assert result.parts[0].models[:4] == before.parts[0].models
    assert len(reproduction.notes) == 3  # at half the size of images robnet_micro is refused too
    assert "expected the package robustbench" in reproduction.notes[1]


def test_a_model_from_elsewhere_is_measured_on_whole_images(tmp_path: Path) -> None:
    plan = tiny_plan(rows=(Row(label="ResNet-18", architecture="resnet18_cifar", paper=45.1),))
    scale = TINY.model_copy(update={"size": 1.0, "eps": "1"})
    result = Reproduction(plan, [DIGITS], tmp_path, scale=scale, beside=("robnet_micro.digits",)).run(progress=False)
    elsewhere = result.parts[0].models[-1]
    assert (elsewhere.label, elsewhere.seed, elsewhere.parameters) == ("robnet_micro.digits", None, 102_246)
    clean = elsewhere.of("clean")
    assert clean is not None
    assert sum(clean.bits) > 0.9 * len(clean.bits)


def test_a_training_that_fails_is_left_out_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Run.do

    def do(self: Run, *, progress: bool) -> None:
        if self.row.label == "ResNet-18":
            raise TrainingError("expected a finite loss, got nan")
        real(self, progress=progress)

    monkeypatch.setattr(Run, "do", do)
    reproduction = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=TINY)
    result = reproduction.run(progress=False)
    assert not result.complete
    assert [model.label for model in result.parts[0].models] == ["RobNet-free"]
    assert reproduction.notes == ["left out: ResNet-18, seed 0: expected a finite loss, got nan"]
    write(result, tmp_path / "report.html")
    assert "Not complete" in (tmp_path / "report.html").read_text()


def test_a_plan_that_could_only_fail_later_is_refused_at_once(tmp_path: Path) -> None:
    wrong = {
        "order_by: expected one of clean, pgd100, got pgd7": tiny_plan().model_copy(update={"order_by": "pgd7"}),
        "expected sources for a transfer": tiny_plan(protocol="table8"),
        "expected images of svhn here, got cifar10-train:data": tiny_plan(data="svhn"),
    }
    for message, plan in wrong.items():
        source = Source("cifar10-train:data", "cifar10-test:data") if "svhn" in message else DIGITS
        with pytest.raises(ReproduceError, match=message):
            Reproduction(plan, [source], tmp_path)


def test_other_test_images_are_measured_anew(finished: tuple[Path, Reproduced], tmp_path: Path) -> None:
    folder, _ = finished
    images = data.digits()[1]
    np.savez(tmp_path / "other.npz", images=images.pixels.permute(0, 2, 3, 1).flip(0), labels=images.labels.flip(0))
    scale = TINY.model_copy(update={"eps": "1"})
    other = Source("digits", str(tmp_path / "other.npz"))
    reproduction = Reproduction(tiny_plan(), [other], folder, scale=scale, seeds=(0, 1))
    assert {type(line.job): line.done for line in reproduction.agenda()} == {Run: True, Measuring: False}


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


COMMAND = [
    sys.executable, "-m", "robnet_zoo.cli", "reproduce", "table1", "--data", "digits", "--test", "digits",
    "--rows", "ResNet-18", "--rows", "RobNet-free", "--width", "0.05", "--depth", "0.1", "--size", "0.5",
    "--epochs", "0.01", "--images", "0.2", "--test-images", "0.04",
]  # fmt: skip


def without_times(path: Path) -> dict[str, object]:
    text = json.loads(path.read_text())
    for part in text["parts"]:
        for model in part["models"]:
            model.pop("hours")
    return text


def test_killed_and_shared_work_gives_the_undisturbed_document(tmp_path: Path) -> None:
    """Two processes share one folder and one of them is killed; the document is that of a process alone."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*COMMAND, "-o", tmp_path / "alone"], env=environment, check=True, capture_output=True)
    shared = [*COMMAND, "-o", tmp_path / "shared"]
    first = subprocess.Popen(shared, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert first.stderr is not None
    for line in first.stderr:  # until it is in the middle of something
        if line.startswith("[1/"):
            break
    second = subprocess.Popen(shared, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stderr.close()
    assert second.wait(timeout=300) == 0
    assert without_times(tmp_path / "shared" / "table1.own.json") == without_times(
        tmp_path / "alone" / "table1.own.json"
    )


# The order


def test_a_protocol_takes_the_gradients_that_an_unfooled_image_takes() -> None:
    one_second = Speed(training=0.0, gradient=1.0, num_classes=10)
    table1, autoattack = load_protocol("table1"), load_protocol("autoattack")
    parts = {attack.title: table1.model_copy(update={"attacks": (attack,)}) for attack in table1.attacks}
    taken = {title: one_second.measure(part, 1) for title, part in parts.items()}
    assert taken == {"fgsm": 1, "pgd20": 20, "pgd100": 100, "deepfool": 50, "mi_fgsm": 10}
    assert one_second.measure(table1, 7) == 7 * 181
    assert one_second.measure(autoattack, 1) == sum(max(attack.cost(10)) for attack in autoattack.attacks) > 7000


def test_a_difference_has_welchs_interval_where_images_add_nothing() -> None:
    # Every image is right in the same share of trainings, so all variance is between trainings.
    first = np.array([[1] * 6 + [0] * 4, [1] * 7 + [0] * 3, [1] * 5 + [0] * 5], dtype=float)
    second = np.array([[1] * 3 + [0] * 7, [1] * 4 + [0] * 6, [1] * 4 + [0] * 6], dtype=float)
    means = [0.6, 0.7, 0.5], [0.3, 0.4, 0.4]
    expected = stats.ttest_ind(*means, equal_var=False).confidence_interval(0.95)
    found = order._estimate(float(np.mean(means[0]) - np.mean(means[1])), [first.mean(1), second.mean(1)], np.zeros(10))
    assert found.interval == pytest.approx((expected.low, expected.high))
    with_images = order.difference(first, second)  # the variance between images makes it wider
    assert with_images.interval.low < found.interval.low


def test_one_training_alone_has_the_interval_of_its_images() -> None:
    found = order.accuracy(np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], dtype=float))
    low, high = stats.binomtest(3, 10).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((low, high))


def test_intervals_cover_what_they_say() -> None:
    """Trainings and images drawn anew 400 times: the interval of the difference, 0, misses it about one time in 20."""
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
def test_the_order_is_judged_by_intervals(
    finished: tuple[Path, Reproduced], accuracies: tuple[float, float], expected: str
) -> None:
    """ResNet-18 below RobNet-free, as the paper has it."""
    _, result = finished
    part = result.parts[0]
    by_label = dict(zip(("ResNet-18", "RobNet-free"), accuracies, strict=True))
    models = []
    for model in part.models:
        right = round(by_label[model.label] * 1000)
        outcomes = tuple(
            each.model_copy(update={"correct": "1" * right + "0" * (1000 - right)}) for each in model.outcomes
        )
        models.append(model.model_copy(update={"outcomes": outcomes}))
    changes = {"models": tuple(models), "data": part.data.model_copy(update={"n": 1000})}
    (pair,) = order.pairs(part.model_copy(update=changes), {"ResNet-18": 45.1, "RobNet-free": 52.57}, "pgd100")
    assert (pair.first, pair.second, pair.verdict) == ("RobNet-free", "ResNet-18", expected)
    assert order.verdict([pair]) == expected


# Report and command


def test_every_table_says_its_scale_and_the_papers_figures_stand_apart(
    finished: tuple[Path, Reproduced], tmp_path: Path
) -> None:
    folder, result = finished
    for ending in (".html", ".md"):
        write(result, tmp_path / f"report{ending}")
        text = unescape((tmp_path / f"report{ending}").read_text()).replace("\\", "")
        assert text.count(str(result.scale)) >= 1 + 2 * len(result.parts)
        assert "52.57" in text
    assert not re.search(r"(src|href)=\"http", (tmp_path / "report.html").read_text())
    with pytest.raises(ReportError, match=r"expected a file that ends in \.html, \.md"):
        write(result, tmp_path / "report.pdf")
    main(["reproduce", "report", str(folder / "trial.tiny.json"), "-o", str(tmp_path / "again.html")])
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_figures_are_drawn_with_a_point_a_row_and_what_was_measured_beneath(
    finished: tuple[Path, Reproduced], tmp_path: Path
) -> None:
    _, result = finished
    write(result, tmp_path / "figure1.html")
    text = (tmp_path / "figure1.html").read_text()
    (drawing,) = re.findall(r"<svg[^>]*Robust accuracy against parameters.*?</svg>", text, re.DOTALL)
    part = result.parts[0]
    for label in ("ResNet-18", "RobNet-free"):
        models = [model for model in part.models if model.label == label]
        right = np.mean([each.bits for model in models for each in model.outcomes if each.attack == "pgd100"])
        (said,) = re.findall(rf"<title>{label}, ([\d,]+) parameters: ([\d.]+) %", drawing)
        assert said == (f"{models[0].parameters:,}", f"{100 * right:.1f}")
    assert "against steps" not in text


def test_a_model_whose_parameters_are_not_known_has_no_point(finished: tuple[Path, Reproduced]) -> None:
    part = finished[1].parts[0]
    foreign = part.models[0].model_copy(update={"label": "foreign.onnx", "parameters": 0})
    (chart,) = against_parameters(part.model_copy(update={"models": (*part.models, foreign)}), "pgd100", note="")
    assert [row.cells[0].text for row in chart.table.rows] == ["ResNet-18", "RobNet-free"]


@pytest.mark.parametrize(("step", "lines"), [("2/255", 2), ("1/255", 0)])
def test_accuracies_are_joined_over_steps_where_attacks_differ_in_nothing_else(
    finished: tuple[Path, Reproduced], step: str, lines: int
) -> None:
    part = finished[1].parts[0]
    attacks = (Pgd(steps=7, step="2/255"), Pgd(steps=100, step=step))
    models = [
        model.model_copy(update={"outcomes": (*model.outcomes, Outcomes(attack="pgd7", correct="1" * part.data.n))})
        for model in part.models
    ]
    protocol = part.protocol.model_copy(update={"attacks": attacks})
    charts = against_steps(part.model_copy(update={"models": tuple(models), "protocol": protocol}), note="a note")
    assert sum(chart.drawing.count('class="line ') for chart in charts) == lines
    assert [row.cells[2].text for chart in charts for row in chart.table.rows][::2] == ["100.0"] * lines


def test_the_agenda_counts_what_is_left_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "speed", lambda *_: Speed(training=0.01, gradient=0.001, num_classes=10))
    scale = TINY.model_copy(update={"epochs": 0.02, "images": 1.0})  # 4 epochs of 9 updates
    reproduction = Reproduction(tiny_plan(), [DIGITS], tmp_path, scale=scale)
    run = reproduction.runs[0]
    images = len(run.images.split()[0])
    assert reproduction.agenda()[0].seconds == pytest.approx(0.01 * 4 * images)
    (run.folder / "checkpoints").mkdir(parents=True)
    for updates in (9, 18):
        (run.folder / "checkpoints" / f"{updates:010}.pt").touch()
    assert reproduction.agenda()[0].seconds == pytest.approx(0.01 * 2 * images)
    assert reproduction.agenda()[1].seconds == pytest.approx(0.001 * 100 * 20)


def test_the_agenda_says_what_is_to_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMAND[3:], "-o", str(tmp_path), "--agenda"])
    lines = capsys.readouterr().out.splitlines()
    assert "At a fraction of the paper's scale: width 0.05" in lines[0]
    jobs = [" ".join(line.split()[:2]) for line in lines[1:-1]]
    assert jobs == ["train ResNet-18,", "measure ResNet-18,", "train RobNet-free,", "measure RobNet-free,"]
    assert lines[-1].startswith("0 of 4 there already; about ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "ResNet-19"], "table1: expected rows among ResNet-18, "),
        (["--scale", "smal"], "smal: neither a bundled scale nor the path of a JSON file, did you mean 'small'"),
        (["--epochs", "2"], "epochs: expected"),
        (["--size", "0.6"], "robnet_free: expected a size whose images are divisible by 4, got 19x19 pixels"),
        (["--test", "digits"], "--data, --test: expected as many of the one as of the other, got 1 and 2"),
        (["--images", "0.01"], "expected at least one batch of 128 training images, got 12"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table1", "--data", "digits", "--test", "digits", "-o", str(tmp_path)]
    rows = [] if "--rows" in arguments else ["--rows", "RobNet-free"]
    with pytest.raises(SystemExit) as caught:
        main([*command, *rows, "--depth", "0.1", "--width", "0.05", *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
