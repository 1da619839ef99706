"""The training loop: what it learns from, what it leaves alone, and that it goes on where it stopped."""

import csv
import errno
import json
import multiprocessing
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robnet_zoo import data, training
from robnet_zoo.core.files import file_sha256
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.errors import DataError, TrainingError, WeightsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network
from robnet_zoo.training import (
    Guard,
    Keeping,
    Objective,
    Recipe,
    Schedule,
    Stage,
    TrainingAttack,
    loop,
    prefetch,
    records,
)
from robnet_zoo.training.distributed import World
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.training.state import initial_state
from robnet_zoo.zoo.registry import load_spec
from tests.interruption import interrupt_at


def changed(recipe: Recipe, **changes) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | changes)


def assert_same_weights(first: Network, second: Network) -> None:
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def last_state(folder: Path) -> dict:
    return torch.load(max((folder / "checkpoints").glob("*.pt")), weights_only=True)


def test_a_run_leaves_the_weights_that_it_returns_and_its_records(tiny, images, recipe, tmp_path):
    network = training.train(tiny, images, recipe, tmp_path, progress=False)
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(0 <= float(row["robust"]) <= float(row["clean"]) <= 1 for row in rows)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "clean", "robust"):
        written = [event.value for event in events.Scalars(f"epoch/{name}")]
        assert written == pytest.approx([float(row[name]) for row in rows])
    assert Image.open(tmp_path / "curves.png").size[0] > 400
    card = (tmp_path / "README.md").read_text()
    assert tiny.hash[:12] in card
    assert "the first 108 images of scikit-learn digits" in card
    assert "optimizer `sgd`, learning rate 0.1 (cosine), momentum 0.9, weight decay 0.0005, float32 arithmetic" in card
    robust = with_interval(float(rows[-1]["robust"]), 8)
    assert f"clean, {robust} under PGD-10 at 8/255" in card
    assert Recipe.load(tmp_path / "recipe.json") == recipe
    assert Genotype.load(tmp_path / "spec.json") == tiny


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": TrainingAttack(steps=0)},
        {"attack": TrainingAttack(kind="n_fgsm", steps=1, step="8/255"), "dtype": "bfloat16", "epochs": 35},
        {"attack": TrainingAttack(kind="free", steps=2, step="8/255"), "epochs": 8},
        {"attack": TrainingAttack(steps=2, loss="kl"), "objective": Objective(kind="trades", beta=1.0)},
        {"optimizer": "adamw", "lr": 0.01},
        {"ema": 0.9, "clip": 5.0, "schedule": Schedule(kind="linear", warmup=0.1)},
    ],
    ids=["clean", "n_fgsm in bfloat16", "free", "trades", "adamw", "averaged"],
)
def test_a_network_learns_by_every_kind_of_recipe(tiny, images, recipe, tmp_path, changes):
    longer = changed(recipe, **({"epochs": 15, "lr": 0.2, "validation": 0} | changes))
    training.train(tiny, images, longer, tmp_path, progress=False)
    rows = history(tmp_path)
    assert float(rows[-1]["loss"]) < 0.85 * float(rows[0]["loss"])


EVERYTHING = {
    "ema": 0.9,
    "dtype": "bfloat16",
    "clip": 1.0,
    "stages": (Stage(size=16, epochs=1),),
    "guard": Guard(updates=2, images=8, steps=2, share=0.9),
    "select": "best",
}


@pytest.mark.parametrize(
    "changes",
    [{}, EVERYTHING, {"attack": TrainingAttack(kind="free", steps=2, step="8/255")}],
    ids=["plain", "everything", "free"],
)
@pytest.mark.parametrize("after", [1, 4, 5, 9])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    tiny, images, recipe, tmp_path, monkeypatch, changes, after
):
    recipe = changed(recipe, **changes)
    undisturbed = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    steps = interrupt_at(monkeypatch, after)  # of 3 an epoch
    keeping = Keeping(seconds=0)
    with pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, recipe, tmp_path / "b", keeping=keeping, progress=False)
    resumed = training.train(tiny, images, recipe, tmp_path / "b", keeping=keeping, progress=False)
    assert len(steps) == 10  # 9 updates, one of which was begun twice
    assert_same_weights(undisturbed, resumed)
    without_times = [
        [{key: value for key, value in row.items() if key != "hours"} for row in history(tmp_path / name)]
        for name in "ab"
    ]
    assert without_times[0] == without_times[1]


def test_a_run_that_is_not_over_tells_what_it_has_come_to(tiny, images, recipe, tmp_path, monkeypatch):
    recipe = changed(recipe, ema=0.9)
    interrupt_at(monkeypatch, 5)  # in the second of three epochs
    with pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    averaged, chosen = last_state(tmp_path)["average"], load_file(tmp_path / "chosen.safetensors")
    assert all(torch.equal(value, averaged[key]) for key, value in chosen.items())
    so_far = TrainingResult.load(tmp_path / "training.json")
    assert (so_far.spec_hash, so_far.recipe, so_far.over) == (tiny.hash, recipe, False)
    assert (so_far.images, so_far.held_out) == (108, recipe.validation)
    assert so_far.file_sha256 == file_sha256(tmp_path / "chosen.safetensors")
    assert [str(row.clean) for row in so_far.epochs] == [row["clean"] for row in history(tmp_path)]
    training.train(tiny, images, recipe, tmp_path, progress=False)
    whole = TrainingResult.load(tmp_path / "training.json")
    assert whole.over
    assert whole.epochs[0] == so_far.epochs[0]
    assert whole.file_sha256 == file_sha256(tmp_path / "model.safetensors")
    assert not (tmp_path / "chosen.safetensors").exists()


@pytest.mark.parametrize("select", ["last", "best"])
def test_an_epoch_that_is_done_again_is_told_of_anew(tiny, images, recipe, tmp_path, monkeypatch, select):
    recipe = changed(recipe, select=select)
    training.train(tiny, images, recipe, tmp_path, progress=False)
    first, card = TrainingResult.load(tmp_path / "training.json"), (tmp_path / "README.md").read_text()
    training.train(tiny, images, recipe, tmp_path, progress=False)  # finds nothing to do
    assert TrainingResult.load(tmp_path / "training.json") == first
    assert (tmp_path / "README.md").read_text() == card
    max((tmp_path / "checkpoints").glob("*.pt")).unlink()
    monkeypatch.setattr(loop.environment, "device", lambda *_: "another machine")
    training.train(tiny, images, recipe, tmp_path, progress=False)
    again = TrainingResult.load(tmp_path / "training.json")
    assert again.devices == (*first.devices, "another machine, 1 process")
    assert [str(row.hours) for row in again.epochs] == [row["hours"] for row in history(tmp_path)]
    assert again.epochs[:-1] == first.epochs[:-1]
    assert again.file_sha256 == first.file_sha256 == file_sha256(tmp_path / "model.safetensors")


def test_averaged_weights_are_what_a_run_with_averaging_gives(tiny, images, recipe, tmp_path):
    plain = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    averaged = training.train(tiny, images, changed(recipe, ema=0.9), tmp_path / "b", progress=False)
    assert not torch.equal(plain.classifier.weight, averaged.classifier.weight)
    state = last_state(tmp_path / "b")
    assert torch.equal(state["network"]["classifier.weight"], plain.classifier.weight)
    assert torch.equal(state["average"]["classifier.weight"], averaged.classifier.weight)


def test_the_best_epochs_weights_are_given_where_the_recipe_wants_them(tiny, images, recipe, tmp_path, monkeypatch):
    said, weights = iter([0.2, 0.5, 0.4]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(said)}

    monkeypatch.setattr(loop, "validate", validate)
    best = training.train(tiny, images, changed(recipe, select="best"), tmp_path, progress=False)
    assert torch.equal(best.classifier.weight, weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_the_best_epoch_is_the_best_since_the_images_had_another_size(tiny, images, recipe, tmp_path, monkeypatch):
    said, weights = iter([0.5, 0.2, 0.3, 0.9, 0.25, 0.2]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(said)}

    monkeypatch.setattr(loop, "validate", validate)
    stages = (Stage(size=16, epochs=1), Stage(size=32, epochs=2), Stage(size=16, epochs=1))
    recipe = changed(recipe, select="best", stages=stages, epochs=6)
    best = training.train(tiny, images, recipe, tmp_path, progress=False)
    assert torch.equal(best.classifier.weight, weights[4])  # not the third's, of this size but before another
    assert TrainingResult.load(tmp_path / "training.json").chosen.epoch == 5


def test_a_best_epoch_that_turns_out_worse_when_it_is_done_again_is_not_given(
    tiny, images, recipe, tmp_path, monkeypatch
):
    said, weights = iter([0.4, 0.5, 0.3, 0.2]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(said)}

    real = training.checkpoints.Checkpoints.save

    def full(self, updates, state):
        if len(weights) == 2:
            raise TrainingError("no space left")
        real(self, updates, state)

    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(training.checkpoints.Checkpoints, "save", full)
    recipe = changed(recipe, select="best")
    with pytest.raises(TrainingError, match="no space left"):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    best = training.train(tiny, images, recipe, tmp_path, progress=False)
    assert torch.equal(best.classifier.weight, weights[0])
    assert TrainingResult.load(tmp_path / "training.json").chosen.epoch == 1


@pytest.mark.parametrize("over", [False, True])
def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew_over_its_weights(
    tiny, images, recipe, tmp_path, monkeypatch, over
):
    if not over:
        interrupt_at(monkeypatch, 5)  # in the second of three epochs
    with nullcontext() if over else pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    for checkpoint in (tmp_path / "checkpoints").glob("*.pt"):
        checkpoint.unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    name, epoch = ("model", 3) if over else ("chosen", 1)
    expected = f"a checkpoint of this run, which came to epoch {epoch}, got none; .* with {name}.safetensors"
    with pytest.raises(TrainingError, match=expected):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_run_that_is_over_gives_its_weights_again_where_they_were_moved_away(tiny, images, recipe, tmp_path):
    recipe = changed(recipe, select="best")
    first = training.train(tiny, images, recipe, tmp_path, progress=False)
    moved = (tmp_path / "model.safetensors").rename(tmp_path / "elsewhere")
    assert_same_weights(first, training.train(tiny, images, recipe, tmp_path, progress=False))
    assert (tmp_path / "model.safetensors").read_bytes() == moved.read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bnbadam", "expected one that runs here, got bnbadam: "), ("adahessian", "unknown optimizer 'adahessian'")],
)
def test_an_optimizer_that_cannot_run_is_refused_before_the_folder_is_claimed(
    tiny, images, recipe, tmp_path, name, expected
):
    with pytest.raises((TrainingError, ValueError), match=expected):
        training.train(tiny, images, changed(recipe, optimizer=name), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_pgd_takes_over_while_the_guard_fails(tiny, images, recipe, tmp_path, monkeypatch):
    said, seen = iter([0.5, 0.1, 0.45]), []
    real = training.updates.attacked
    guard = Guard(updates=1, images=8, steps=3, share=0.5)
    recipe = changed(
        recipe, epochs=1, guard=guard, attack=TrainingAttack(kind="n_fgsm", steps=1, step="8/255"), validation=8
    )

    def validate(network, images, recipe, world, *, size, steps=10, generator):
        return {"clean": 0.5, "robust": next(said) if steps == 3 else 0.5}

    def attacked(network, images, labels, attack, *arguments, **strength):
        seen.append((attack.kind, attack.steps, attack.eps, attack.step))
        return real(network, images, labels, attack, *arguments, **strength)

    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(training.updates, "attacked", attacked)
    training.train(tiny, images, recipe, tmp_path, progress=False)
    own = ("n_fgsm", 1, "8/255", "8/255")
    assert seen == [own, own, ("pgd", 3, "8/255", "2/255")]  # the second check fails, the third passes again
    assert not last_state(tmp_path)["rescued"]


def test_the_guard_watches_from_the_first_check_at_a_new_image_size(tiny, images, recipe, tmp_path, monkeypatch):
    said, seen = iter([0.5, 0.4, 0.5, 0.1, 0.4, 0.4]), []
    real = training.updates.attacked
    recipe = changed(
        recipe,
        epochs=2,
        stages=(Stage(size=16, epochs=1),),
        guard=Guard(updates=1, images=8, steps=3, share=0.5),
        attack=TrainingAttack(kind="n_fgsm", steps=1, step="8/255"),
    )

    def validate(network, images, recipe, world, *, size, steps=10, generator):
        return {"clean": 0.5, "robust": next(said) if steps == 3 else 0.5}

    def attacked(network, images, labels, attack, *arguments, **strength):
        seen.append((images.shape[-1], attack.kind))
        return real(network, images, labels, attack, *arguments, **strength)

    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(training.updates, "attacked", attacked)
    training.train(tiny, images, recipe, tmp_path, progress=False)
    assert seen == [(16, "n_fgsm")] * 3 + [(32, "n_fgsm"), (32, "pgd"), (32, "n_fgsm")]


def test_clipped_gradients_move_the_weights_as_far_as_the_clip_allows(tiny, images, recipe, tmp_path):
    plain = changed(recipe, epochs=1, optimizer="momentum", momentum=0.0, weight_decay=0.0, lr=0.1, validation=0)
    clip = 1e-4
    clipped = changed(plain, clip=clip, schedule=Schedule(kind="steps"))
    before = {key: value.clone() for key, value in initial_state(tiny, plain, World()).network.named_parameters()}
    lengths = []
    for name, chosen in (("plain", plain), ("clipped", clipped)):
        after = dict(training.train(tiny, images, chosen, tmp_path / name, progress=False).named_parameters())
        lengths.append(float(sum((after[key] - value).detach().square().sum() for key, value in before.items()).sqrt()))
    assert lengths[0] > 100 * lengths[1]
    assert 0.5 * clip * 0.1 < lengths[1] <= 3 * clip * 0.1 * 1.01  # three updates, each of the clip times the rate


def test_a_line_tells_the_rate_the_loss_the_accuracies_and_the_time_that_is_left(tiny, images, recipe, tmp_path, capfd):
    training.train(tiny, images, recipe, tmp_path)
    line = [line for line in capfd.readouterr().err.splitlines() if line][-1]
    told = r"[\d.]+ images/s, epoch 3/3, loss [\d.]+, clean [\d.]+%, robust [\d.]+%, 0 min left"
    assert re.fullmatch(rf"100%\|#+\| 288/288 \[\d\d:\d\d, +{told}\]", line)


def test_a_run_is_gone_on_with_where_there_is_one(tiny, images, recipe, tmp_path):
    with pytest.raises(TrainingError, match="none: expected the folder of a run to go on with, got none"):
        training.train(tiny, images, recipe, tmp_path / "none", resume=True, progress=False)
    assert not (tmp_path / "none").exists()
    first = training.train(tiny, images, recipe, tmp_path / "run", progress=False)
    assert_same_weights(first, training.train(tiny, images, recipe, tmp_path / "run", resume=True, progress=False))


def test_labels_that_count_from_one_are_refused(tiny, images, recipe, tmp_path):
    network = tiny.network.model_copy(update={"num_classes": 11})
    shifted = replace(images, labels=images.labels + 1, classes=())
    many = replace(shifted, pixels=shifted.pixels.repeat(3, 1, 1, 1), labels=shifted.labels.repeat(3))
    with pytest.raises(DataError, match="each class from 0 to 10, got none of 0 among 360; do labels count from 1"):
        training.train(tiny.model_copy(update={"network": network}), many, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_validation_images_do_not_change_the_weights(tiny, images, recipe, tmp_path):
    other = images.pixels.clone()
    other[108:] = 255 - other[108:]  # the held-out tenth
    first = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    second = training.train(tiny, replace(images, pixels=other), recipe, tmp_path / "b", progress=False)
    assert_same_weights(first, second)


def test_another_seed_gives_other_weights(tiny, images, recipe, tmp_path):
    first = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    second = training.train(tiny, images, changed(recipe, seed=1), tmp_path / "b", progress=False)
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_a_run_goes_on_whose_recipe_is_older_than_some_of_its_fields(tiny, images, recipe, tmp_path):
    training.train(tiny, images, recipe, tmp_path, progress=False)
    run = json.loads((tmp_path / "run.json").read_text())
    del run["recipe"]["attack"]["statistics"]  # at its default, as before there was the field
    (tmp_path / "run.json").write_text(json.dumps(run))
    training.train(tiny, images, recipe, tmp_path, progress=False)
    other = changed(recipe, attack=recipe.attack.model_copy(update={"statistics": "batch"}))
    with pytest.raises(TrainingError, match="another spec, recipe, data or weights"):
        training.train(tiny, images, other, tmp_path, progress=False)


def test_a_run_that_is_at_work_in_the_folder_is_left_alone(tiny, images, recipe, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match="but another one is at work"):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    training.train(tiny, images, recipe, tmp_path, progress=False)


def test_a_folder_of_another_run_is_refused_and_left_alone(tiny, images, recipe, tmp_path):
    training.train(tiny, images, recipe, tmp_path, progress=False)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="another spec, recipe, data or weights"):
        training.train(tiny, images, changed(recipe, lr=0.5), tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_run_begins_with_the_weights_that_it_is_given_and_says_so(tiny, images, recipe, tmp_path):
    first = training.train(tiny, images, recipe, tmp_path / "first", progress=False)
    file, still = tmp_path / "first/model.safetensors", changed(recipe, lr=1e-12, weight_decay=0.0, select="last")
    second = training.train(tiny, images, still, tmp_path / "second", weights=file, progress=False)
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(dict(second.named_parameters())[name], parameter, rtol=1e-5, atol=1e-6)
    assert (
        f"begun with model.safetensors (sha256 `{file_sha256(file)[:12]}`)"
        in (tmp_path / "second/README.md").read_text()
    )
    with pytest.raises(TrainingError, match="another spec, recipe, data or weights"):
        training.train(tiny, images, still, tmp_path / "second", progress=False)


def test_weights_that_do_not_fit_or_are_not_there_are_refused(tiny, images, recipe, tmp_path):
    with pytest.raises(WeightsError, match="nothing: expected a safetensors file, or the name of bundled weights"):
        training.train(tiny, images, recipe, tmp_path, weights="nothing", progress=False)
    with pytest.raises(WeightsError, match="expected weights of tiny, got"):
        training.train(tiny, images, recipe, tmp_path, weights="robnet_micro.cifar10", progress=False)
    assert not list(tmp_path.iterdir())


def test_weights_of_other_cells_are_refused_even_if_their_names_and_shapes_are_the_same(tiny, images, recipe, tmp_path):
    safetensors.torch.save_file(compile(tiny).state_dict(), tmp_path / "model.safetensors")
    load_spec("robnet_micro").save(tmp_path / "spec.json")
    with pytest.raises(WeightsError, match=r"expected weights of tiny, got those of other cells \(robnet_micro\)"):
        training.train(tiny, images, recipe, tmp_path / "run", weights=tmp_path / "model.safetensors", progress=False)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(
    tiny, images, recipe, tmp_path, monkeypatch
):
    real = training.updates.attacked

    def poison(*arguments, **strength):
        found = real(*arguments, **strength)
        return found * float("nan") if list((tmp_path / "checkpoints").glob("*.pt")) else found

    monkeypatch.setattr(training.updates, "attacked", poison)
    with pytest.raises(TrainingError, match="epoch 2, step 0: expected a finite loss, got nan"):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    state = last_state(tmp_path)
    assert (state["epoch"], state["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in state["network"].values())


def test_gradients_that_are_no_numbers_stop_the_run_before_they_reach_the_weights(
    tiny, images, recipe, tmp_path, monkeypatch
):
    real, steps = training.updates.loss_of, []

    def steep(model, *arguments):
        steps.append(1)
        loss = real(model, *arguments)
        return loss if len(steps) < 5 else loss + 0 * (loss - loss.detach()).abs().sqrt()  # finite, its slope is not

    monkeypatch.setattr(training.updates, "loss_of", steep)
    with pytest.raises(TrainingError, match=r"epoch 2, step 1: expected finite gradients, got some of norm (nan|inf)"):
        training.train(tiny, images, recipe, tmp_path, keeping=Keeping(seconds=0), progress=False)
    assert all(value.isfinite().all() for value in last_state(tmp_path)["network"].values())


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tiny, images, recipe, tmp_path, monkeypatch):
    real = records.write_csv

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "write_csv", full)
    with pytest.raises(TrainingError, match=r"cannot be written; the last checkpoint is intact: .*No space left"):
        training.train(tiny, images, recipe, tmp_path / "a", keeping=Keeping(seconds=0), progress=False)
    monkeypatch.setattr(records, "write_csv", real)
    resumed = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    assert_same_weights(training.train(tiny, images, recipe, tmp_path / "b", progress=False), resumed)


def test_another_number_of_classes_is_refused(tiny, images, recipe, tmp_path):
    network = tiny.network.model_copy(update={"num_classes": 12})
    with pytest.raises(DataError, match="scikit-learn digits: expected 12 classes, got 10"):
        training.train(tiny.model_copy(update={"network": network}), images, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def imagenet(tmp_path):
    """20 pictures of two classes in ImageNet's layout, and a validation part that no training may open."""
    dice = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (24, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}{index}.png")
    return tmp_path / "imagenet"


@pytest.fixture
def large(tiny):
    """`tiny` for pictures of 224x224."""
    network = tiny.network.model_copy(update={"input_size": (3, 224, 224), "num_classes": 2})
    return tiny.model_copy(update={"network": network})


@pytest.mark.parametrize("kind", ["pgd", "free"])
def test_picture_files_are_decoded_ahead_without_changing_the_weights(
    large, recipe, imagenet, tmp_path, monkeypatch, kind
):
    recipe = changed(recipe, batch=6, epochs=1, attack=TrainingAttack(kind=kind, steps=2), validation=0)
    pictures, real, begun = data.load(f"imagenet-train:{imagenet}", train=True), prefetch.Prefetcher.begin, []
    monkeypatch.setattr(prefetch.Prefetcher, "begin", lambda self, *batch: (begun.append(batch[1]), real(self, *batch)))
    first = training.train(large, pictures, recipe, tmp_path / "a", progress=False)
    assert begun == [2 if kind == "free" else 1, 4 if kind == "free" else 2]  # updates before batches 2 and 3
    monkeypatch.setattr(prefetch.Prefetcher, "begin", lambda *_: None)
    second = training.train(large, pictures, recipe, tmp_path / "b", progress=False)
    assert_same_weights(first, second)


def test_data_that_vanishes_is_one_line_and_the_run_goes_on_when_it_is_back(large, recipe, imagenet, tmp_path):
    recipe = changed(recipe, batch=6, epochs=2)
    pictures = data.load(f"imagenet-train:{imagenet}", train=True)
    away = tmp_path / "away"

    run, real = tmp_path / "run", loop.TrainingRun._end_of_epoch

    def vanish(self, records):
        real(self, records)
        (imagenet / "train").rename(away)

    loop.TrainingRun._end_of_epoch = vanish
    try:
        with pytest.raises(DataError, match=r"expected a picture that can be read, got: .*No such file"):
            training.train(large, pictures, recipe, run, progress=False)
    finally:
        loop.TrainingRun._end_of_epoch = real
    assert last_state(run)["epoch"] == 2
    away.rename(imagenet / "train")
    training.train(large, pictures, recipe, run, progress=False)
    assert (run / "model.safetensors").exists()


def test_a_training_run_never_opens_a_file_of_the_test_part(large, recipe, imagenet, tmp_path):
    changed(recipe, batch=6, epochs=1).save(tmp_path / "recipe.json")
    large.save(tmp_path / "large.json")
    script = (
        "import sys, json\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "from robnet_zoo import cli\n"
        "cli.main(sys.argv[2:])\n"
        "json.dump(opened, open(sys.argv[1], 'w'))\n"
    )
    arguments = ["train", str(tmp_path / "large.json"), "--data", f"imagenet-train:{imagenet}"]
    arguments += ["--output", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.json")]
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "opened.json"), *arguments], check=True, timeout=120)
    opened = [name for name in json.loads((tmp_path / "opened.json").read_text()) if name.startswith(str(imagenet))]
    assert {Path(name).parts[-3] for name in opened} == {"train"}
    assert len({name for name in opened if name.endswith(".png")}) == 20


def test_weight_decay_spares_biases_and_norms(tiny, recipe):
    affine = tiny.model_copy(update={"network": tiny.network.model_copy(update={"affine": True})})
    state = initial_state(affine, recipe, World())
    decays = {id(p): group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    norms = {f"{name}.weight" for name, module in state.network.named_modules() if "BatchNorm" in type(module).__name__}
    assert norms
    for name, parameter in state.network.named_parameters():
        spared = name.endswith("bias") or name in norms
        assert decays[id(parameter)] == (0 if spared else recipe.weight_decay), name


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tiny, images, recipe, tmp_path):
    small = replace(images, pixels=images.pixels[:, :, :16, :16])
    with pytest.raises(DataError, match="expected images of"):
        training.train(tiny, small, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def keep_training(folder: Path) -> None:
    """What a process runs until it is killed."""
    torch.set_num_threads(1)
    spec, recipe = Genotype.load(folder / "tiny.json"), Recipe.load(folder / "recipe.json")
    training.train(spec, data.digits()[0][:120], recipe, folder / "run", keeping=Keeping(seconds=0), progress=False)


@pytest.mark.slow  # twenty processes are started and killed
def test_twenty_kills_at_random_moments_change_no_bit_of_the_weights(tiny, images, recipe, tmp_path):
    recipe = changed(recipe, **(EVERYTHING | {"epochs": 40}))
    tiny.save(tmp_path / "tiny.json")
    recipe.save(tmp_path / "recipe.json")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["robnet_zoo.training", "robnet_zoo.data"])
    dice, seen = random.Random(0), [""]
    newest = tmp_path / "run" / "checkpoints"
    for _ in range(20):
        process = processes.Process(target=keep_training, args=(tmp_path,))
        process.start()
        while process.is_alive() and max((path.name for path in newest.glob("*.pt")), default="") <= seen[-1]:
            time.sleep(0.002)  # until it has come further than the one before
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was through before it could be killed"
        seen.append(max(path.name for path in newest.glob("*.pt")))
    last = processes.Process(target=keep_training, args=(tmp_path,))
    last.start()
    last.join()
    assert last.exitcode == 0
    undisturbed = training.train(tiny, images, recipe, tmp_path / "whole", progress=False)
    found = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, found[key]) for key, value in undisturbed.state_dict().items())
    assert not list((tmp_path / "run").rglob("*.part"))
