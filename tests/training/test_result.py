"""The result of a run, finished or not, and the weights that it names."""

import pytest
import torch
from safetensors.torch import load_file

from robnet_zoo import training
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import TrainingError
from robnet_zoo.training import (
    Stage,
    loop,
)
from robnet_zoo.training.result import TrainingResult
from tests.interruption import interrupt_at
from tests.training.runs import changed, history, last_state


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
def test_an_epoch_that_is_done_again_is_reported_again(tiny, images, recipe, tmp_path, monkeypatch, select):
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


def test_the_best_epochs_weights_are_given_where_the_recipe_wants_them(tiny, images, recipe, tmp_path, monkeypatch):
    accuracies, weights = iter([0.2, 0.5, 0.4]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(accuracies)}

    monkeypatch.setattr(loop, "validate", validate)
    best = training.train(tiny, images, changed(recipe, select="best"), tmp_path, progress=False)
    assert torch.equal(best.classifier.weight, weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_the_best_epoch_is_the_best_since_the_images_had_another_size(tiny, images, recipe, tmp_path, monkeypatch):
    accuracies, weights = iter([0.5, 0.2, 0.3, 0.9, 0.25, 0.2]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(accuracies)}

    monkeypatch.setattr(loop, "validate", validate)
    stages = (Stage(size=16, epochs=1), Stage(size=32, epochs=2), Stage(size=16, epochs=1))
    recipe = changed(recipe, select="best", stages=stages, epochs=6)
    best = training.train(tiny, images, recipe, tmp_path, progress=False)
    assert torch.equal(best.classifier.weight, weights[4])  # not the third's, of this size but before another
    assert TrainingResult.load(tmp_path / "training.json").chosen.epoch == 5


def test_a_best_epoch_that_turns_out_worse_when_it_is_done_again_is_not_given(
    tiny, images, recipe, tmp_path, monkeypatch
):
    accuracies, weights = iter([0.4, 0.5, 0.3, 0.2]), []

    def validate(network, *_, **__):
        weights.append(network.classifier.weight.detach().clone())
        return {"clean": 0.5, "robust": next(accuracies)}

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
