"""The training loop: what it learns from, what it leaves alone, and that it resumes where it stopped."""

import errno
import json
import random
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robnet_zoo import cli, data, training
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.errors import DataError, TrainingError, WeightsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.training import (
    Guard,
    Keeping,
    Recipe,
    Stage,
    TrainingAttack,
    loop,
    records,
)
from robnet_zoo.training.records import draw_curves
from tests.interruption import interrupt_at
from tests.processes import start
from tests.training.runs import EVERYTHING, assert_same_weights, changed, history, last_state


def test_a_run_leaves_the_weights_that_it_returns_and_its_records(tiny, images, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "draw_curves", draw_curves)
    network = training.train(tiny, images, recipe, tmp_path, progress=False)
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert_same_weights(network, again)
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


@pytest.fixture(
    scope="module",
    params=[{}, EVERYTHING, {"attack": TrainingAttack(kind="free", steps=2, step="8/255")}, {"optimizer": "kron"}],
    ids=["plain", "everything", "free", "an optimizer that draws"],
)
def undisturbed(request, tiny, images, recipe, tmp_path_factory):
    """Return a recipe, the network that it gives where nothing stops the run, and the folder of that run."""
    varied, folder = changed(recipe, **request.param), tmp_path_factory.mktemp("undisturbed")
    return varied, training.train(tiny, images, varied, folder, progress=False), folder


@pytest.mark.parametrize("after", [1, 4, 5, 9])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(undisturbed, tiny, images, tmp_path, monkeypatch, after):
    recipe, network, folder = undisturbed
    steps = interrupt_at(monkeypatch, after)  # of 3 an epoch
    keeping = Keeping(seconds=0)
    with pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, recipe, tmp_path, keeping=keeping, progress=False)
    resumed = training.train(tiny, images, recipe, tmp_path, keeping=keeping, progress=False)
    assert len(steps) == 10  # 9 updates, one of which was begun twice
    assert_same_weights(network, resumed)
    without_times = [
        [{key: value for key, value in row.items() if key != "hours"} for row in history(run)]
        for run in (folder, tmp_path)
    ]
    assert without_times[0] == without_times[1]


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


def test_pgd_takes_over_while_the_guard_fails(tiny, images, recipe, tmp_path, monkeypatch):
    accuracies, seen = iter([0.5, 0.1, 0.45]), []
    real = training.updates.attacked
    guard = Guard(updates=1, images=8, steps=3, share=0.5)
    recipe = changed(
        recipe, epochs=1, guard=guard, attack=TrainingAttack(kind="n_fgsm", steps=1, step="8/255"), validation=8
    )

    def validate(network, images, recipe, world, *, size, steps=10, generator):
        return {"clean": 0.5, "robust": next(accuracies) if steps == 3 else 0.5}

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
    accuracies, seen = iter([0.5, 0.4, 0.5, 0.1, 0.4, 0.4]), []
    real = training.updates.attacked
    recipe = changed(
        recipe,
        epochs=2,
        stages=(Stage(size=16, epochs=1),),
        guard=Guard(updates=1, images=8, steps=3, share=0.5),
        attack=TrainingAttack(kind="n_fgsm", steps=1, step="8/255"),
    )

    def validate(network, images, recipe, world, *, size, steps=10, generator):
        return {"clean": 0.5, "robust": next(accuracies) if steps == 3 else 0.5}

    def attacked(network, images, labels, attack, *arguments, **strength):
        seen.append((images.shape[-1], attack.kind))
        return real(network, images, labels, attack, *arguments, **strength)

    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(training.updates, "attacked", attacked)
    training.train(tiny, images, recipe, tmp_path, progress=False)
    assert seen == [(16, "n_fgsm")] * 3 + [(32, "n_fgsm"), (32, "pgd"), (32, "n_fgsm")]


def test_the_guard_does_not_watch_standard_training(tiny, images, recipe, tmp_path, monkeypatch):
    guard, watched = Guard(updates=1, images=8, steps=3, share=0.5), []

    def validate(network, images, recipe, world, *, size, steps=10, generator):
        watched.extend([len(watched)] if steps == 3 else [])
        return {"clean": 0.5, "robust": 0.5}

    monkeypatch.setattr(loop, "validate", validate)
    training.train(tiny, images, changed(recipe, standard=0.6, guard=guard), tmp_path, progress=False)
    assert len(watched) == 4  # of 9 updates: with the sixth the share of 0.6 is over


def test_a_run_is_gone_on_with_where_there_is_one(tiny, images, recipe, tmp_path):
    with pytest.raises(TrainingError, match="none: expected the folder of a run to resume, got none"):
        training.train(tiny, images, recipe, tmp_path / "none", resume=True, progress=False)
    assert not (tmp_path / "none").exists()
    first = training.train(tiny, images, recipe, tmp_path / "run", progress=False)
    assert_same_weights(first, training.train(tiny, images, recipe, tmp_path / "run", resume=True, progress=False))


def test_a_run_is_gone_on_with_where_only_the_recipes_description_differs(tiny, images, recipe, tmp_path):
    first = training.train(tiny, images, recipe, tmp_path / "run", progress=False)
    other = recipe.model_copy(update={"description": "in other words"})
    assert_same_weights(first, training.train(tiny, images, other, tmp_path / "run", resume=True, progress=False))


def test_labels_that_count_from_one_are_refused(tiny, images, recipe, tmp_path):
    network = tiny.network.model_copy(update={"num_classes": 11})
    shifted = replace(images, labels=images.labels + 1, classes=())
    many = replace(shifted, pixels=shifted.pixels.repeat(3, 1, 1, 1), labels=shifted.labels.repeat(3))
    with pytest.raises(DataError, match="each class from 0 to 10, got none of 0 among 360; do labels count from 1"):
        training.train(tiny.model_copy(update={"network": network}), many, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def sorted_by_class(images):
    order = images.labels.argsort(stable=True)
    return replace(images, pixels=images.pixels[order], labels=images.labels[order])


def test_images_that_are_sorted_by_class_are_refused(tiny, images, recipe, tmp_path):
    with pytest.raises(
        DataError, match="expected the last tenth, which is held out, to be a random sample of all, got"
    ):
        training.train(tiny, sorted_by_class(images), recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_held_out_images_whose_first_ones_are_of_one_class_are_refused(tiny, recipe, tmp_path):
    whole, _ = data.digits()
    rest, held_out = whole.split()
    ordered = sorted_by_class(held_out)
    odd = replace(
        whole, pixels=torch.cat([rest.pixels, ordered.pixels]), labels=torch.cat([rest.labels, ordered.labels])
    )
    with pytest.raises(DataError, match="expected the held-out images that are measured to be a random sample"):
        training.train(tiny, odd, recipe, tmp_path / "run", progress=False)


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
    with pytest.raises(TrainingError, match=r'recipe \(attack.statistics ".*" there, "batch" here'):
        training.train(tiny, images, other, tmp_path, progress=False)


def test_a_run_that_is_at_work_in_the_folder_is_left_alone(tiny, images, recipe, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match="but another one is at work"):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    training.train(tiny, images, recipe, tmp_path, progress=False)


def test_a_folder_of_another_run_is_refused_and_left_alone(tiny, images, recipe, tmp_path):
    training.train(tiny, images, recipe, tmp_path, progress=False)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"another recipe \(lr [\d.]+ there, 0.5 here\); take another --output"):
        training.train(tiny, images, changed(recipe, lr=0.5), tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_weights_that_do_not_fit_or_are_not_there_are_refused(tiny, images, recipe, tmp_path):
    with pytest.raises(WeightsError, match="nothing: expected a safetensors file, or the name of bundled weights"):
        training.train(tiny, images, recipe, tmp_path, weights="nothing", progress=False)
    with pytest.raises(WeightsError, match="expected weights of tiny, got"):
        training.train(tiny, images, recipe, tmp_path, weights="robnet_micro.cifar10", progress=False)
    assert not list(tmp_path.iterdir())


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
        with pytest.raises(DataError, match=r"expected the file of a picture, got none there"):
            training.train(large, pictures, recipe, run, progress=False)
    finally:
        loop.TrainingRun._end_of_epoch = real
    assert last_state(run)["epoch"] == 2
    away.rename(imagenet / "train")
    training.train(large, pictures, recipe, run, progress=False)
    assert (run / "model.safetensors").exists()


def run_and_list_files(listing: Path, arguments: list[str]) -> None:
    """Run the command and write down every file that is opened, also for C code; such a hook stays in its process."""
    opened: list[str] = []
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
    cli.main(arguments)
    listing.write_text(json.dumps(opened))


def test_a_training_run_never_opens_a_file_of_the_test_part(large, recipe, imagenet, tmp_path):
    changed(recipe, batch=6, epochs=1).save(tmp_path / "recipe.json")
    large.save(tmp_path / "large.json")
    arguments = ["train", str(tmp_path / "large.json"), "--data", f"imagenet-train:{imagenet}"]
    arguments += ["--output", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.json")]
    process = start(run_and_list_files, tmp_path / "opened.json", arguments)
    process.join()
    assert process.exitcode == 0
    opened = [name for name in json.loads((tmp_path / "opened.json").read_text()) if name.startswith(str(imagenet))]
    assert {Path(name).parts[-3] for name in opened} == {"train"}
    assert len({name for name in opened if name.endswith(".png")}) == 20


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tiny, images, recipe, tmp_path):
    small = replace(images, pixels=images.pixels[:, :, :16, :16])
    with pytest.raises(DataError, match="expected images of"):
        training.train(tiny, small, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def keep_training(folder: Path) -> None:
    """Train until the process is killed."""
    spec, recipe = Genotype.load(folder / "tiny.json"), Recipe.load(folder / "recipe.json")
    training.train(spec, data.digits()[0][:120], recipe, folder / "run", keeping=Keeping(seconds=0), progress=False)


@pytest.mark.slow  # five processes are started and killed
def test_five_kills_at_random_moments_change_no_bit_of_the_weights(tiny, images, recipe, tmp_path):
    recipe = changed(recipe, **(EVERYTHING | {"epochs": 10}))
    tiny.save(tmp_path / "tiny.json")
    recipe.save(tmp_path / "recipe.json")
    dice, seen = random.Random(0), [""]
    newest = tmp_path / "run" / "checkpoints"
    for _ in range(5):
        process = start(keep_training, tmp_path)
        while process.is_alive() and max((path.name for path in newest.glob("*.pt")), default="") <= seen[-1]:
            time.sleep(0.002)  # until it is further than the one before
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was through before it could be killed"
        seen.append(max(path.name for path in newest.glob("*.pt")))
    last = start(keep_training, tmp_path)
    last.join()
    assert last.exitcode == 0
    undisturbed = training.train(tiny, images, recipe, tmp_path / "whole", progress=False)
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in undisturbed.state_dict().items())
    assert not list((tmp_path / "run").rglob("*.part"))
