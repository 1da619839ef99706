"""The training loop: plain PGD adversarial training of one process (paper, equation 1 and appendix B)."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from robnet_zoo.attacks import pgd
from robnet_zoo.compiler import compile, for_inference
from robnet_zoo.data import Images, check_fits
from robnet_zoo.documents import parse_json, read_bytes, write_atomically
from robnet_zoo.genotype import Genotype
from robnet_zoo.network import Network
from robnet_zoo.training.recipe import Recipe


class TrainingError(RuntimeError):
    """A run that cannot go on; one line that says why. The last checkpoint is left as it is."""


@dataclass
class _Run:
    """Everything that changes while training, and that a checkpoint holds."""

    network: Network
    optimizer: torch.optim.SGD
    generator: torch.Generator  # of the order of images, their augmentation and the attacks' starts
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
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
            self.generator.set_state(state["generator"])
            self.epoch, self.history = state["epoch"], state["history"]
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, TypeError, ValueError, OSError) as error:
            raise TrainingError(f"{path}: expected a checkpoint of this run, got one that cannot be read") from error


def train(
    spec: Genotype, images: Images, recipe: Recipe, output: str | os.PathLike[str], *, progress: bool = True
) -> Network:
    """Train a network adversarially; returns it in eval mode.

    images: the training images; the last tenth is held out and measured after every epoch (`Images.split`).
    output: a folder for `checkpoint.pt` after every epoch, `history.json`, and at the end `model.safetensors`. A run
    that was stopped at any moment goes on from its last checkpoint when it is started again with the same arguments.
    Raises DataError if the images do not fit the spec, TrainingError if the folder holds another run or the loss is
    no longer a number.
    """
    check_fits(images, input_size=spec.network.input_size, num_classes=spec.network.num_classes)
    training, validation = images.split()
    if len(training) < recipe.batch:
        raise TrainingError(f"expected at least one batch of {recipe.batch} training images, got {len(training)}")
    folder = Path(output)
    _claim(folder, spec, recipe, training)
    run = _start(spec, recipe)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    steps = len(training) // recipe.batch
    with tqdm(
        total=recipe.epochs * steps * recipe.batch,
        initial=run.epoch * steps * recipe.batch,
        unit=" images",
        disable=not progress,
        mininterval=0.5 if os.isatty(2) else 30,
    ) as bar:
        while run.epoch < recipe.epochs:
            run.epoch += 1
            loss = _epoch(run, training, recipe, bar)
            measured = _validate(run.network, validation, recipe)
            run.history.append({"epoch": run.epoch, "loss": loss, **measured})
            write_atomically(folder / "history.json", (json.dumps(run.history, indent=1) + "\n").encode())
            run.save(checkpoint)
            bar.set_postfix({key: f"{value:.3f}" for key, value in run.history[-1].items() if key != "epoch"})
    network = run.network.eval()
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_atomically(folder / "model.safetensors", safetensors.torch.save(tensors))
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


def _start(spec: Genotype, recipe: Recipe) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # torch's initialisation knows no other generator
        network = compile(spec)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
    )
    return _Run(network, optimizer, torch.Generator().manual_seed(recipe.seed))


def _epoch(run: _Run, training: Images, recipe: Recipe, bar: tqdm[Any]) -> float:
    """One pass over the training images; returns the mean loss."""
    steps = len(training) // recipe.batch
    order = torch.randperm(len(training), generator=run.generator)
    total = 0.0
    for step in range(steps):
        for group in run.optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule((run.epoch - 1 + step / steps) / recipe.epochs, recipe.warmup)
        images, labels = training.batch(order[step * recipe.batch : (step + 1) * recipe.batch])
        images = augment(images, recipe, run.generator)
        images = attack(run.network, images, labels, recipe, run.generator)
        run.network.train()
        loss = F.cross_entropy(run.network(images), labels, label_smoothing=recipe.label_smoothing)
        if not math.isfinite(loss.item()):
            raise TrainingError(f"epoch {run.epoch}, step {step}: expected a finite loss, got {loss.item()}")
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        total += loss.item()
        bar.update(recipe.batch)
    return total / steps


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


def attack(network: Network, images: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Adversarial images for the network as it would answer in eval mode; the network itself is not touched."""
    if not recipe.attack.steps:
        return images
    return pgd(
        for_inference(network, dtype=getattr(torch, recipe.attack.dtype)),
        images,
        labels,
        eps=recipe.attack.eps_value,
        step=recipe.attack.step_value,
        steps=recipe.attack.steps,
        generator=generator,
    )


@torch.no_grad()
def _validate(network: Network, validation: Images, recipe: Recipe) -> dict[str, float]:
    """Clean and PGD accuracy on the first validation images."""
    measured = validation[: recipe.validation]
    if not len(measured):
        return {}
    network.eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    clean = robust = 0
    for images, labels in measured.batches(recipe.batch):
        clean += _right(network, images, labels)
        robust += _right(network, attack(network, images, labels, recipe, generator), labels)
    return {"clean": clean / len(measured), "robust": robust / len(measured)}


def _right(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    return int((network(images).argmax(1) == labels).sum())
