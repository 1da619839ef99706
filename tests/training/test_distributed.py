"""Several processes: the weights of one that takes the parts in turn, and a check that they stay in step."""

import errno
import json
import os
import socket
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robnet_zoo import data, training
from robnet_zoo.errors import DataError, LeftError, OutOfStepError, TrainingError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network
from robnet_zoo.training import Keeping, Recipe, TrainingAttack, checkpoints
from robnet_zoo.training.adversary import attacked, loss_of
from robnet_zoo.training.augmentation import augmented
from robnet_zoo.training.distributed import World, joined
from robnet_zoo.training.loop import check_world
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.training.state import initial_state, state_of
from robnet_zoo.training.updates import generator
from tests.processes import start, under_torchrun

TOGETHER = Recipe(
    name="two", epochs=5, batch=24, attack=TrainingAttack(steps=1), ema=0.9, validation=12
)  # 4 steps an epoch


def train_as(rank: int, folder: Path, port: int) -> None:
    """Train as one of two processes."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    images = data.digits()[0][:120]
    training.train(Genotype.load(folder / "tiny.json"), images, TOGETHER, folder / "run", progress=False)


def train_and_die_as(rank: int, folder: Path, port: int) -> None:
    """Train as one of two processes until the machine is gone in the middle of an epoch."""
    real, steps = training.updates.Updates._step, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 7:
            os._exit(0)
        return real(*arguments)

    training.updates.Updates._step = step
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    spec, images = Genotype.load(folder / "tiny.json"), data.digits()[0][:120]
    training.train(spec, images, TOGETHER, folder / "run", keeping=Keeping(updates=5), progress=False)


def train_and_drift_as(rank: int, folder: Path, port: int) -> None:
    """Train as one of two processes; a weight of the second changes at its third update."""
    real, steps = training.updates.Updates._step, []

    def step(self, *arguments):
        steps.append(1)
        if rank == 1 and len(steps) == 3:
            with torch.no_grad():
                self.state.network.classifier.bias[0] += 1e-3
        return real(self, *arguments)

    training.updates.Updates._step = step
    try:
        train_as(rank, folder, port)
    except OutOfStepError as error:
        (folder / f"{rank}.txt").write_text(str(error))


def train_and_fail_as(rank: int, folder: Path, port: int) -> None:
    """Train as one of two processes; the disk is full at the first checkpoint, or the second loses its images."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def vanished(*_):
        raise DataError("digits: vanished")

    if (folder / "full").exists():
        checkpoints.write_atomically = full
    elif rank == 1:
        training.updates.augmented = vanished
    try:
        train_as(rank, folder, port)
    except (TrainingError, DataError, LeftError) as error:
        (folder / f"{rank}.txt").write_text(str(error))


def drift_as(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    network = torch.nn.Linear(3, 2)
    with torch.no_grad():  # the same numbers, two of them exchanged in one process
        network.weight.copy_(torch.tensor([[1.0, 2, 3], [4, 5, 6]]))
        network.bias.copy_(torch.tensor([[1.0, 2.0], [2.0, 1.0]][rank]))
    with joined() as world:
        try:
            world.check_in_step(network)
        except OutOfStepError as error:
            (folder / f"{rank}.txt").write_text(str(error))


def gather_as(rank: int, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined() as world:
        parts = world.gathered(torch.full((2, 3), float(rank)))
        agreed = world.agree(rank == 0)
        total = world.total([1.0 + rank])
        (folder / f"{rank}.json").write_text(json.dumps([parts.tolist(), agreed, total]))


def in_two_processes(work, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(work, rank, folder, port) for rank in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def halves_in_turn(spec, images) -> Network:
    """Train in one process that takes the two halves of each batch in turn, each with batch norms of its own."""
    state, split = initial_state(spec, TOGETHER, World()), images.split()[0]
    steps = len(split) // TOGETHER.batch
    for epoch in range(1, TOGETHER.epochs + 1):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(TOGETHER.seed * 100_003 + epoch))
        for step in range(steps):
            before = {key: value.clone() for key, value in state.network.named_buffers()}
            state.optimizer.zero_grad()
            after: list[dict[str, torch.Tensor]] = []
            for rank in range(2):
                for key, value in state.network.named_buffers():
                    value.copy_(before[key])
                part = order[step * 24 + rank * 12 : step * 24 + (rank + 1) * 12]
                draws = [generator(TOGETHER.seed, state.updates, rank, purpose) for purpose in ("images", "attack")]
                clean, labels = augmented(split, part, TOGETHER.augmentation, draws[0])
                adversarial = attacked(state.network, clean, labels, TOGETHER.attack, draws[1])
                loss = loss_of(state.trained.train(), clean, adversarial, labels, TOGETHER.objective)
                (loss / 2).backward()
                after.append({key: value.clone() for key, value in state.network.named_buffers()})
            for group in state.optimizer.param_groups:
                group["lr"] = TOGETHER.lr_at(epoch - 1 + step / steps, 32)
            state.optimizer.step()
            state.updates += 1
            for key, value in state.network.named_buffers():
                value.copy_((after[0][key] + after[1][key]) / 2)
            state.average.update(state.network, step=state.updates)
    return state.given


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_that_takes_the_halves_in_turn(tiny, images, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    in_two_processes(train_as, tmp_path)
    state, expected = load_file(tmp_path / "run" / "model.safetensors"), halves_in_turn(tiny, images).state_dict()
    newest = max((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert torch.load(newest, weights_only=True)["updates"] == 20
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=1e-5, msg=key)


@pytest.mark.slow
def test_two_processes_that_died_go_on_to_the_same_weights(tiny, tmp_path):
    for name in ("whole", "died"):
        (tmp_path / name).mkdir()
        tiny.save(tmp_path / name / "tiny.json")
    in_two_processes(train_as, tmp_path / "whole")
    in_two_processes(train_and_die_as, tmp_path / "died")
    assert not (tmp_path / "died" / "run" / "model.safetensors").exists()
    in_two_processes(train_as, tmp_path / "died")
    whole, died = (load_file(tmp_path / name / "run" / "model.safetensors") for name in ("whole", "died"))
    assert all(torch.equal(value, died[key]) for key, value in whole.items())


@pytest.mark.slow
def test_what_processes_tell_each_other_is_the_same_in_both(tmp_path):
    in_two_processes(gather_as, tmp_path)
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert answers[0] == answers[1] == [[[[0.0] * 3] * 2, [[1.0] * 3] * 2], True, [3.0]]


@pytest.mark.slow
def test_processes_that_drift_apart_are_noticed(tmp_path):
    in_two_processes(drift_as, tmp_path)
    for rank in range(2):
        message = (tmp_path / f"{rank}.txt").read_text()
        assert message == "expected the same weights in all processes, got others in [1] than in 0"


@pytest.mark.slow
def test_processes_that_drift_apart_while_they_train_are_noticed_before_a_checkpoint(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    in_two_processes(train_and_drift_as, tmp_path)
    for rank in range(2):
        message = (tmp_path / f"{rank}.txt").read_text()
        assert message == "expected the same weights in all processes, got others in [1] than in 0"
    assert not list((tmp_path / "run" / "checkpoints").glob("*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_cannot_go_on_says_why_and_the_other_that_it_is_gone(tiny, tmp_path, rank):
    tiny.save(tmp_path / "tiny.json")
    if rank == 0:
        (tmp_path / "full").touch()
    in_two_processes(train_and_fail_as, tmp_path)
    messages = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert "No space left on device" in messages[0] if rank == 0 else messages[1] == "digits: vanished"
    other = 1 - rank
    assert messages[other] == f"process {other} of 2: expected all processes, but another one has left; it says why"


@pytest.mark.slow
def test_torchrun_trains_as_the_processes_do_and_tells_once_where_the_weights_are(tiny, tmp_path):
    # The recipe is for the 1,297 scans that the command takes: 24 updates.
    tiny.save(tmp_path / "tiny.json")
    recipe = TOGETHER.model_copy(update={"epochs": 1, "batch": 48})
    recipe.save(tmp_path / "recipe.json")
    printed = under_torchrun(
        *("train", tmp_path / "tiny.json", "--data", "digits", "--recipe", tmp_path / "recipe.json"),
        *("--output", tmp_path / "run"),
        folder=tmp_path,
    )
    *outcome, weights = printed.splitlines()
    assert weights == str(tmp_path / "run" / "model.safetensors")
    assert len(outcome) == 1  # not one a process
    result = TrainingResult.load(tmp_path / "run" / "training.json")
    assert result.devices[0].endswith("2 processes")


def test_synchronised_norms_are_made_for_several_processes_and_refused_on_cpus(tiny):
    recipe = TOGETHER.model_copy(update={"sync_bn": True})
    with pytest.raises(TrainingError, match="sync_bn: expected GPUs, got processes on CPUs"):
        check_world(recipe, World(size=2))

    class Alone(World):
        def wrapped(self, network):
            return network

    kinds = {type(part) for part in state_of(compile(tiny), recipe, Alone(size=2)).network.modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds


def test_a_batch_that_cannot_be_shared_is_refused(tiny, images, tmp_path, monkeypatch):
    monkeypatch.setattr(training.loop, "joined", lambda: nullcontext(World(rank=0, size=5)))
    with pytest.raises(TrainingError, match="expected a batch that 5 processes can share, got 24 images"):
        training.train(tiny, images, TOGETHER, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
