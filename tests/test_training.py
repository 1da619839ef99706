"""The trainer: what it learns from, what it leaves alone, and that it goes on where it stopped."""

import json
import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robnet_zoo import data, training
from robnet_zoo.compiler import compile
from robnet_zoo.data import DataError
from robnet_zoo.documents import DocumentError
from robnet_zoo.genotype import Genotype
from robnet_zoo.network import Network
from robnet_zoo.training import Attack, Recipe, Stage, TrainingError, loop
from robnet_zoo.training.distributed import OutOfStepError, World, joined

RECIPE = Recipe(name="test", epochs=3, batch=32, attack=Attack(steps=1), validation=8)


@pytest.fixture(scope="module")
def images() -> data.Images:
    return data.digits()[0][:120]


def test_training_writes_the_weights_that_it_returns_and_its_history(tiny, images, tmp_path):
    network = training.train(tiny, images, RECIPE, tmp_path, progress=False)
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, saved[key]) for key, value in network.state_dict().items())
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert set(history[0]) == {"epoch", "loss", "clean", "robust"}


def test_a_network_learns(tiny, images, tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 30, "lr": 0.3, "attack": Attack(steps=0)})
    training.train(tiny, images, recipe, tmp_path, progress=False)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tiny, images, tmp_path, monkeypatch):
    undisturbed = training.train(tiny, images, RECIPE, tmp_path / "a", progress=False)
    calls = 0
    real = loop.attack

    def stop_in_the_second_epoch(*arguments, **strength):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return real(*arguments, **strength)

    monkeypatch.setattr(loop, "attack", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, RECIPE, tmp_path / "b", progress=False)
    monkeypatch.setattr(loop, "attack", real)
    resumed = training.train(tiny, images, RECIPE, tmp_path / "b", progress=False)
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_run_that_was_stopped_within_an_epoch_goes_on_to_the_same_weights(tiny, images, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"ema": 0.9, "dtype": "bfloat16", "clip": 1.0})
    undisturbed = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    real, steps = loop._step, []

    def stop_at_the_fifth(*arguments, **strength):
        steps.append(1)
        if len(steps) == 5:  # of 3 an epoch
            raise KeyboardInterrupt
        return real(*arguments, **strength)

    monkeypatch.setattr(loop, "_step", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        training.train(tiny, images, recipe, tmp_path / "b", progress=False)
    assert torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["step"] == 1
    monkeypatch.setattr(loop, "_step", real)
    resumed = training.train(tiny, images, recipe, tmp_path / "b", progress=False)
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_averaged_weights_are_what_a_run_with_averaging_gives(tiny, images, tmp_path):
    plain = training.train(tiny, images, RECIPE, tmp_path / "a", progress=False)
    averaged = training.train(tiny, images, RECIPE.model_copy(update={"ema": 0.9}), tmp_path / "b", progress=False)
    assert not torch.equal(plain.classifier.weight, averaged.classifier.weight)
    state = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)
    assert torch.equal(state["network"]["classifier.weight"], plain.classifier.weight)
    assert torch.equal(state["average"]["classifier.weight"], averaged.classifier.weight)


def test_the_average_of_constant_weights_is_those_weights(tiny):
    network, average = compile(tiny), compile(tiny)
    for _ in range(200):
        loop._average(average, network, decay=0.8)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(average.state_dict()[key], value)


def test_stages_give_the_sizes_and_the_clock_counts_pixels():
    recipe = RECIPE.model_copy(update={"epochs": 4, "stages": (Stage(size=16, epochs=2), Stage(size=24, epochs=1))})
    assert [recipe.size_at(epoch, 32) for epoch in (1, 2, 3, 4)] == [16, 16, 24, 32]
    pixels = 2 * 16**2 + 24**2 + 32**2
    assert recipe.done(1.5, 32) == pytest.approx(1.5 * 16**2 / pixels)
    assert recipe.done(3.25, 32) == pytest.approx((2 * 16**2 + 24**2 + 0.25 * 32**2) / pixels)
    assert recipe.done(4, 32) == 1


def test_stages_longer_than_the_run_are_refused():
    with pytest.raises(DocumentError, match="stages: expected no more than the run's 1 epochs"):
        Recipe.parse({"name": "short", "epochs": 1, "stages": [{"size": 16, "epochs": 2}]})


def test_small_images_are_means_of_the_pixels_that_they_stand_for():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    constant = torch.full((1, 3, 8, 8), 0.25)
    assert loop.resize(images, 8) is images
    assert loop.resize(images, 4).shape == (2, 3, 4, 4)
    torch.testing.assert_close(loop.resize(constant, 4), constant[:, :, :4, :4])
    torch.testing.assert_close(loop.resize(images, 4).mean(), images.mean(), rtol=0.05, atol=0)


def test_validation_images_do_not_change_the_weights(tiny, images, tmp_path):
    other = images.pixels.clone()
    other[108:] = 255 - other[108:]  # the held-out tenth
    first = training.train(tiny, images, RECIPE, tmp_path / "a", progress=False)
    second = training.train(tiny, replace(images, pixels=other), RECIPE, tmp_path / "b", progress=False)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_another_seed_gives_other_weights(tiny, images, tmp_path):
    first = training.train(tiny, images, RECIPE, tmp_path / "a", progress=False)
    recipe = RECIPE.model_copy(update={"seed": 1})
    second = training.train(tiny, images, recipe, tmp_path / "b", progress=False)
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_a_folder_of_another_run_is_refused_and_left_alone(tiny, images, tmp_path):
    training.train(tiny, images, RECIPE, tmp_path, progress=False)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="another spec, recipe or data"):
        training.train(tiny, images, RECIPE.model_copy(update={"lr": 0.5}), tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(tiny, images, tmp_path, monkeypatch):
    real = loop.attack

    def poison(*arguments, **strength):
        found = real(*arguments, **strength)
        return found * float("nan") if (tmp_path / "checkpoint.pt").exists() else found

    monkeypatch.setattr(loop, "attack", poison)
    with pytest.raises(TrainingError, match="epoch 2, step 0: expected a finite loss, got nan"):
        training.train(tiny, images, RECIPE, tmp_path, progress=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in state["network"].values())


def test_the_inner_attack_leaves_the_network_as_it_was(tiny):
    network = compile(tiny).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(4, dtype=torch.long)
    found = loop.attack(network, torch.rand(4, 3, 32, 32), labels, RECIPE, generator)
    assert not found.requires_grad
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_augmentation_gives_crops_of_the_padded_image_and_their_mirror_images():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) + 1
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    crops = {tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)}
    crops |= {tuple(torch.tensor(crop).reshape(4, 4).flip(1).flatten().tolist()) for crop in crops}
    recipe = RECIPE.model_copy(update={"crop": 1, "flip": True})
    generator = torch.Generator().manual_seed(0)
    seen = {tuple(x.flatten().tolist()) for x in loop.augment(image.repeat(500, 1, 1, 1), recipe, generator)}
    assert seen == crops


def test_without_crop_and_flip_images_stay():
    images = torch.rand(5, 3, 4, 4)
    recipe = RECIPE.model_copy(update={"crop": 0, "flip": False})
    assert torch.equal(loop.augment(images, recipe, torch.Generator()), images)


def test_weight_decay_spares_biases_and_norms(tiny):
    run = loop._start(
        tiny.model_copy(update={"network": tiny.network.model_copy(update={"affine": True})}), RECIPE, World()
    )
    decayed, spared = run.optimizer.param_groups
    assert decayed["weight_decay"] == RECIPE.weight_decay
    assert spared["weight_decay"] == 0
    named = {id(parameter): name for name, parameter in run.network.named_parameters()}
    norms = {f"{name}.weight" for name, module in run.network.named_modules() if "BatchNorm" in type(module).__name__}
    assert norms
    names = {named[id(parameter)] for parameter in spared["params"]}
    assert names == {name for name in named.values() if name.endswith("bias") or name in norms}


def test_images_that_do_not_fit_are_refused_before_anything_is_written(tiny, images, tmp_path):
    small = replace(images, pixels=images.pixels[:, :, :16, :16])
    with pytest.raises(DataError, match="expected images of"):
        training.train(tiny, small, RECIPE, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# Several processes

TOGETHER = RECIPE.model_copy(update={"epochs": 5, "batch": 24, "ema": 0.9, "validation": 12})  # 4 steps an epoch


def train_as(rank: int, folder: Path, port: int) -> None:
    """What one of two processes runs."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    training.train(
        Genotype.load(folder / "tiny.json"), data.digits()[0][:120], TOGETHER, folder / "run", progress=False
    )


def drift_as(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    network = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(network.weight, 1.0 + rank * 1e-7)
    torch.nn.init.zeros_(network.bias)
    with joined() as world:
        try:
            world.check_in_step(network)
        except OutOfStepError as error:
            (folder / f"{rank}.txt").write_text(str(error))


def in_two_processes(work, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, folder, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def halves_in_turn(spec, images) -> Network:
    """One process that takes the two halves of each batch in turn, each with batch norms of its own."""
    run = loop._start(spec, TOGETHER, World())
    split = images.split()[0]
    for epoch in range(1, TOGETHER.epochs + 1):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(TOGETHER.seed * 100_003 + epoch))
        for step in range(len(split) // TOGETHER.batch):
            done = TOGETHER.done(epoch - 1 + step / (len(split) // TOGETHER.batch), 32)
            before = {key: value.clone() for key, value in run.network.named_buffers()}
            run.optimizer.zero_grad()
            after: list[dict[str, torch.Tensor]] = []
            for rank in range(2):
                for key, value in run.network.named_buffers():
                    value.copy_(before[key])
                batch = order[step * 24 + rank * 12 : step * 24 + (rank + 1) * 12]
                generator = loop._generator(TOGETHER.seed, run.updates, rank)
                pixels, labels = split.batch(batch)
                pixels = loop.augment(pixels, TOGETHER, generator)
                pixels = loop.attack(run.network, pixels, labels, TOGETHER, generator)
                loss = torch.nn.functional.cross_entropy(run.trained.train()(pixels), labels)
                (loss / 2).backward()
                after.append({key: value.clone() for key, value in run.network.named_buffers()})
            for group in run.optimizer.param_groups:
                group["lr"] = TOGETHER.lr * loop._schedule(done, TOGETHER.warmup)
            run.optimizer.step()
            run.updates += 1
            for key, value in run.network.named_buffers():
                value.copy_((after[0][key] + after[1][key]) / 2)
            loop._average(run.average, run.network, decay=min(0.9, (1 + run.updates) / (10 + run.updates)))
    return run.average


@pytest.mark.slow  # two processes import torch
def test_two_processes_give_the_weights_of_one_that_takes_the_halves_in_turn(tiny, images, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    in_two_processes(train_as, tmp_path)
    found, expected = load_file(tmp_path / "run" / "model.safetensors"), halves_in_turn(tiny, images).state_dict()
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["updates"] == 20
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-5, msg=key)


@pytest.mark.slow  # two processes import torch
def test_processes_that_drift_apart_are_noticed(tmp_path):
    in_two_processes(drift_as, tmp_path)
    for rank in range(2):
        assert (
            tmp_path / f"{rank}.txt"
        ).read_text() == "expected the same weights in all processes, got others in [1] than in 0"
