"""The model cards of bundled weights."""

from __future__ import annotations

from robnet_zoo.benchmarks.result import Alarm, Result
from robnet_zoo.reports.cards import card, epochs
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from tools import committed, docs
from tools.bundle import lineage

NAME = "robnet_free.fast_cifar10.json"


def test_the_model_cards_of_bundled_weights_are_current():
    cards = docs.model_cards()
    assert set(cards) == set(weights.FOLDER.glob("*.md"))
    for path, text in cards.items():
        assert path.read_text() == text, "run `make docs`"


def test_a_card_of_a_run_that_is_not_over_says_so():
    (entry,) = (each for each in weights.manifest().entries if f"{each.model}.{each.tag}.json" == NAME)
    run = TrainingResult.load(committed.TRAINING / NAME)
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"epochs": len(run.epochs)})})
    longer = run.model_copy(update={"recipe": run.recipe.model_copy(update={"epochs": len(run.epochs) + 1})})
    results = [Result.load(committed.ROBUSTNESS / NAME)]
    assert "A milestone" not in card(entry, {NAME: run}, results)
    assert "A milestone" in card(entry, {NAME: longer}, results)


def test_a_card_says_that_earlier_training_has_no_document():
    name = "robnet_micro.cifar10.json"
    (entry,) = (each for each in weights.manifest().entries if f"{each.model}.{each.tag}.json" == name)
    run, results = TrainingResult.load(committed.TRAINING / name), [Result.load(committed.ROBUSTNESS / name)]
    assert "hours, from earlier ones whose training has no document." in card(entry, {name: run}, results)
    assert "hours. " in card(entry, {name: run.model_copy(update={"begun_with": None})}, results)


def test_a_card_tells_runs_of_another_architecture_apart():
    (entry,) = (each for each in weights.manifest().entries if each.model == "robnet_large")
    text = docs.model_cards()[weights.FOLDER / "robnet_large.cifar10.md"]
    runs = [TrainingResult.load(path) for path in lineage(entry, weights.manifest().entries)]
    hours, of_large = (sum(run.epochs[-1].hours for run in part) for part in (runs, runs[-1:]))
    assert f"in {hours:.1f} hours, of which {hours - of_large:.1f} trained robnet_free." in text
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("- architecture: ")] == [
        *["robnet_free"] * (len(runs) - 1),
        "robnet_large",
    ]


def test_what_merely_counts_is_a_note_on_a_card():
    (entry,) = (each for each in weights.manifest().entries if f"{each.model}.{each.tag}.json" == NAME)
    run, result = TrainingResult.load(committed.TRAINING / NAME), Result.load(committed.ROBUSTNESS / NAME)
    alarms = (Alarm(name="zero_gradients", text="5 images"), Alarm(name="unconfirmed", text="1 of 2"))
    lines = card(entry, {NAME: run}, [result.model_copy(update={"alarms": alarms})]).splitlines()
    assert {"    - alarm: 5 images", "    - note: 1 of 2"} <= set(lines)


def test_an_epoch_after_which_nothing_was_measured_has_dashes():
    run = TrainingResult.load(committed.TRAINING / NAME)
    first = run.epochs[0].model_copy(update={"clean": None, "robust": None})
    lines = epochs(run.model_copy(update={"epochs": (first, *run.epochs[1:])}))
    assert len(lines) == 2 + len(run.epochs)
    assert lines[2].startswith(f"| {first.epoch} | {first.size} | {first.loss:.3f} | – | – | ")
