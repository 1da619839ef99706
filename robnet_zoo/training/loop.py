"""The training loop: plain PGD adversarial training of one process (paper, equation 1 and appendix B)."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from robnet_zoo.attacks import n_fgsm, pgd
from robnet_zoo.compiler import compile, for_inference, for_training
from robnet_zoo.data import Images, check_fits
from robnet_zoo.documents import parse_json, read_bytes, write_atomically
from robnet_zoo.genotype import Genotype
from robnet_zoo.network import Network
from robnet_zoo.progress import bar as progress_bar
from robnet_zoo.training.distributed import World, joined
from robnet_zoo.training.recipe import Recipe

CHECKPOINT_SECONDS = 120.0
CHECK_EVERY = 100  # updates


class TrainingError(RuntimeError):
    """A run that cannot go on; one line that says why. The last checkpoint is left as it is."""


@dataclass
class _Run:
    """Everything that changes while training, and that a checkpoint holds."""

    network: Network
    trained: nn.Module  # the same network in its training form, with gradients that are the mean over all processes
    optimizer: torch.optim.SGD
    world: World
    average: Network | None  # of the weights, where the recipe asks for one: what is validated and given
    epoch: int = 1
    step: int = 0  # of this epoch: how many are over
    loss: float = 0.0  # their summed losses
    updates: int = 0  # of the weights, in all
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def given(self) -> Network:
        """The network that the run is for: the averaged one if there is one."""
        return self.network if self.average is None else self.average

    def save(self, path: Path) -> None:
        """Write everything; the first process does, and all hold the same."""
        if not self.world.first:
            return
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "updates": self.updates,
            "history": self.history,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.epoch, self.step = state["epoch"], state["step"]
            self.loss, self.updates, self.history = state["loss"], state["updates"], state["history"]
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, TypeError, ValueError, OSError) as error:
            raise TrainingError(f"{path}: expected a checkpoint of this run, got one that cannot be read") from error


def train(
    spec: Genotype, images: Images, recipe: Recipe, output: str | os.PathLike[str], *, progress: bool = True
) -> Network:
    """Train a network adversarially; returns it in eval mode.

    images: the training images; the last tenth is held out and measured after every epoch (`Images.split`).
    output: a folder for `checkpoint.pt`, written every two minutes and after every epoch, `history.json`, and at the
    end `model.safetensors`. A run that was stopped at any moment goes on from its last checkpoint when it is started
    again with the same arguments.
    Raises DataError if the images do not fit the spec, TrainingError if the folder holds another run or the loss is
    no longer a number.
    """
    check_fits(images, input_size=spec.network.input_size, num_classes=spec.network.num_classes)
    training, validation = images.split()
    if len(training) < recipe.batch:
        raise TrainingError(f"expected at least one batch of {recipe.batch} training images, got {len(training)}")
    with joined() as world:
        if recipe.batch % world.size:
            raise TrainingError(f"expected a batch that {world.size} processes can share, got {recipe.batch} images")
        return _train(spec, training, validation, recipe, Path(output), world, progress=progress)


def _train(
    spec: Genotype,
    training: Images,
    validation: Images,
    recipe: Recipe,
    folder: Path,
    world: World,
    *,
    progress: bool,
) -> Network:
    if world.first:
        _claim(folder, spec, recipe, training)
    world.wait()
    _claim(folder, spec, recipe, training)
    run = _start(spec, recipe, world)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    steps = len(training) // recipe.batch
    total, done = (epochs * steps * recipe.batch for epochs in (recipe.epochs, run.epoch - 1))
    with progress_bar(total=total, done=done + run.step * recipe.batch, shown=progress and world.first) as bar:
        while run.epoch <= recipe.epochs:
            _epoch(run, training, recipe, bar, checkpoint)
            size = recipe.size_at(run.epoch, training.pixels.shape[-1])
            measured = _validate(run.given, validation, recipe, size, world)
            run.history.append({"epoch": run.epoch, "loss": run.loss / steps, **measured})
            if world.first:
                write_atomically(folder / "history.json", (json.dumps(run.history, indent=1) + "\n").encode())
            run.epoch, run.step, run.loss = run.epoch + 1, 0, 0.0
            run.save(checkpoint)
            bar.set_postfix({key: f"{value:.3f}" for key, value in run.history[-1].items() if key != "epoch"})
    network = run.given.eval()
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    if world.first:
        write_atomically(folder / "model.safetensors", safetensors.torch.save(tensors))
    world.wait()
    return network


def _claim(folder: Path, spec: Genotype, recipe: Recipe, training: Images) -> None:
    """Write down what runs in this folder, or check that it is this very run."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"spec": spec.hash, "recipe": recipe.model_dump(mode="json"), "data": training.sha256}
    path = folder / "run.json"
    if path.exists():
        if parse_json(read_bytes(path), source=str(path)) != identity:
            raise TrainingError(f"{folder}: expected a folder of this run, got one with another spec, recipe or data")
        return
    spec.save(folder / "spec.json")
    write_atomically(path, (json.dumps(identity, indent=1) + "\n").encode())


def _start(spec: Genotype, recipe: Recipe, world: World) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # torch's initialisation knows no other generator
        network = compile(spec).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else None
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
    )
    form = for_training(network, dtype=getattr(torch, recipe.dtype))
    return _Run(network, world.wrapped(form), optimizer, world, average)


def _epoch(run: _Run, training: Images, recipe: Recipe, bar: tqdm[Any], checkpoint: Path) -> None:
    """What is left of one pass over the training images."""
    steps = len(training) // recipe.batch
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(recipe.seed * 100_003 + run.epoch))
    saved = time.monotonic()
    while run.step < steps:
        done = recipe.done(run.epoch - 1 + run.step / steps, training.pixels.shape[-1])
        for group in run.optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(done, recipe.warmup)
        batch = order[run.step * recipe.batch : (run.step + 1) * recipe.batch]
        images, labels = training.batch(batch[run.world.share(recipe.batch)])
        loss = _step(run, images, labels, recipe, done)
        if not math.isfinite(loss):
            raise TrainingError(f"epoch {run.epoch}, step {run.step}: expected a finite loss, got {loss}")
        run.step, run.loss = run.step + 1, run.loss + loss
        bar.update(recipe.batch)
        bar.set_postfix_str(f"epoch {run.epoch}, loss {run.loss / run.step:.3f}", refresh=False)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            run.save(checkpoint)
            saved = time.monotonic()


def _step(run: _Run, images: Tensor, labels: Tensor, recipe: Recipe, done: float) -> float:
    """One step of the optimizer, if the loss is finite; returns the loss, which is the mean over all processes.

    done: the share of the run that is over. Batch norms see the images of their own process; their running statistics
    are averaged after the step.
    """
    generator = _generator(recipe.seed, run.updates, run.world.rank)
    images = augment(images, recipe, generator)
    images = resize(images, recipe.size_at(run.epoch, images.shape[-1]))
    images = attack(run.network, images, labels, recipe, generator, strength=recipe.strength(done))
    run.trained.train()
    loss = F.cross_entropy(run.trained(images), labels, label_smoothing=recipe.label_smoothing)
    mean = run.world.total([loss.item()])[0] / run.world.size
    if not math.isfinite(mean):
        return mean
    run.optimizer.zero_grad()
    loss.backward()
    if recipe.clip:
        nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
    run.optimizer.step()
    run.world.mean_([value for value in run.network.buffers() if value.is_floating_point()])
    run.updates += 1
    if run.updates % CHECK_EVERY == 0:
        run.world.check_in_step(run.network)
    if run.average is not None:
        _average(run.average, run.network, decay=min(recipe.ema, (1 + run.updates) / (10 + run.updates)))
    return mean


def _generator(seed: int, update: int, rank: int) -> torch.Generator:
    """The random numbers of one step in one process: of its augmentation and its attack."""
    digest = hashlib.blake2b(f"{seed} {update} {rank}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@torch.no_grad()
def _average(average: Network, network: Network, *, decay: float) -> None:
    """Move the averaged weights and batch-norm statistics towards the network's."""
    means, values = average.state_dict(), network.state_dict()
    floating = [key for key, mean in means.items() if mean.is_floating_point()]
    torch._foreach_lerp_([means[key] for key in floating], [values[key] for key in floating], 1 - decay)
    for key in means.keys() - set(floating):
        means[key].copy_(values[key])


def _schedule(done: float, warmup: float) -> float:
    """The learning rate's factor when the share `done` of the run is over."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """A random crop of each zero-padded image, and a random horizontal flip: (N, C, H, W) -> (N, C, H, W)."""
    count, _, height, width = images.shape
    if recipe.crop:
        padded = F.pad(images, (recipe.crop,) * 4)
        top, left = torch.randint(0, 2 * recipe.crop + 1, (2, count), generator=generator)
        rows = (top[:, None] + torch.arange(height))[:, None, :, None]  # (N, 1, H, 1)
        columns = (left[:, None] + torch.arange(width))[:, None, None, :]  # (N, 1, 1, W)
        images = padded[torch.arange(count)[:, None, None, None], _channels(images), rows, columns]
    if recipe.flip:
        flipped = torch.rand(count, generator=generator) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images


def _channels(images: Tensor) -> Tensor:
    return torch.arange(images.shape[1])[None, :, None, None]  # (1, C, 1, 1)


def resize(images: Tensor, size: int) -> Tensor:
    """Square images, (N, C, H, H), at `size` pixels a side, antialiased."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)


def attack(
    network: Network,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    strength: float = 1.0,
) -> Tensor:
    """Adversarial images for the network as it would answer in eval mode; the network itself is not touched.

    strength: what eps and step are multiplied with.
    """
    chosen = recipe.attack
    if not chosen.steps:
        return images
    fast = for_inference(network, dtype=getattr(torch, chosen.dtype))
    eps, step = strength * chosen.eps_value, strength * chosen.step_value
    if chosen.kind == "n_fgsm":
        return n_fgsm(fast, images, labels, eps=eps, step=step, generator=generator)
    return pgd(fast, images, labels, eps=eps, step=step, steps=chosen.steps, generator=generator)


@torch.no_grad()
def _validate(network: Network, validation: Images, recipe: Recipe, size: int, world: World) -> dict[str, float]:
    """Clean accuracy on the first validation images, and that under PGD with ten steps of a quarter of eps.

    size: pixels a side, as in the epoch before: a network that has seen small images alone is no judge of whole ones.
    """
    measured = validation[: recipe.validation]
    if not len(measured):
        return {}
    network.eval()
    generator = _generator(recipe.seed, -1, world.rank)
    fast = for_inference(network, dtype=getattr(torch, recipe.attack.dtype))
    eps = recipe.attack.eps_value
    clean = robust = 0
    for images, labels in measured[world.rank :: world.size].batches(recipe.batch):
        images = resize(images, size)
        clean += _right(network, images, labels)
        found = pgd(fast, images, labels, eps=eps, step=eps / 4, steps=10, generator=generator)
        robust += _right(network, found, labels)
    totals = world.total([clean, robust])
    return {"clean": totals[0] / len(measured), "robust": totals[1] / len(measured)}


def _right(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    return int((network(images).argmax(1) == labels).sum())
