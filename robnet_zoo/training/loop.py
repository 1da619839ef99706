"""The training loop: adversarial training (paper, equation 1 and appendix B) by a recipe, on any processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from robnet_zoo.data import DataError, Images, check_fits
from robnet_zoo.documents import parse_json, read_bytes, write_atomically
from robnet_zoo.genotype import Genotype
from robnet_zoo.network import Network
from robnet_zoo.training.adversary import Replay, attacked, loss_of, rescue
from robnet_zoo.training.augmentation import augmented, resize
from robnet_zoo.training.checkpoints import Checkpoints, Keeping, TrainingError
from robnet_zoo.training.distributed import World, joined
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.training.records import Records
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.validation import STEPS, validate

CHECK_EVERY = 100  # updates, between checks that all processes hold the same weights
MODEL, BEST = "model.safetensors", "best.safetensors"


def train(
    spec: Genotype,
    images: Images,
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    keeping: Keeping | None = None,
    progress: bool = True,
) -> Network:
    """Train a network adversarially; returns it in eval mode.

    images: the training images; the last tenth is held out and measured after every epoch (`Images.split`).
    output: a folder for `checkpoints/` (as `keeping` says, and after every epoch), `history.csv`, TensorBoard events,
    and at the end `model.safetensors`, `curves.png` and the model card `README.md`. A run that was stopped at any
    moment goes on from its last checkpoint when it is started again with the same arguments. Under torchrun, each
    process takes its part of every batch. Uses a GPU if there is one.
    Raises DataError if the images do not fit the spec or vanish, TrainingError if the folder holds another run, the
    loss is no longer a number, or nothing can be written; the last checkpoint is then left as it is.
    """
    check_fits(images, input_size=spec.network.input_size, num_classes=spec.network.num_classes)
    training, validation = images.split()
    if len(training) < recipe.batch:
        raise TrainingError(f"expected at least one batch of {recipe.batch} training images, got {len(training)}")
    if images.classes and len(images.classes) != spec.network.num_classes:
        raise DataError(f"{images.name}: expected {spec.network.num_classes} classes, got {len(images.classes)}")
    with joined() as world:
        if recipe.sync_bn and world.size > 1 and world.device.type != "cuda":
            raise TrainingError("sync_bn: expected GPUs, got processes on CPUs")
        if recipe.batch % world.size:
            raise TrainingError(f"expected a batch that {world.size} processes can share, got {recipe.batch} images")
        folder = Path(output)
        if world.first:
            _claim(folder, spec, recipe, training)
            for place in (folder, folder / "checkpoints"):
                for leftover in place.glob(".*.part"):  # of a process that was killed while it wrote
                    leftover.unlink(missing_ok=True)
        world.wait()
        _claim(folder, spec, recipe, training)
        checkpoints = Checkpoints(folder / "checkpoints", Keeping() if keeping is None else keeping)
        run = Run(spec, training, validation[: recipe.validation], recipe, folder, world, checkpoints)
        return run.to_the_end(progress=progress)


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
    recipe.save(folder / "recipe.json")
    write_atomically(path, (json.dumps(identity, indent=1) + "\n").encode())


class Run:
    """One training run in one process."""

    def __init__(
        self,
        spec: Genotype,
        training: Images,
        validation: Images,
        recipe: Recipe,
        folder: Path,
        world: World,
        checkpoints: Checkpoints,
    ) -> None:
        self.spec, self.training, self.validation, self.recipe = spec, training, validation, recipe
        self.folder, self.world, self.checkpoints = folder, world, checkpoints
        self.steps = len(training) // recipe.batch  # an epoch
        self.native = training.shape[-1]
        self.state = initial_state(spec, recipe, world)

    def to_the_end(self, *, progress: bool) -> Network:
        """Whatever is left of the run, from the newest checkpoint on."""
        try:
            self.checkpoints.load_newest(self._restore)
            self._check_all_are_here()
            return self._trained(progress=progress)
        except OSError as error:
            raise TrainingError(f"{self.folder}: cannot be written; the last checkpoint is left: {error}") from error

    def _trained(self, *, progress: bool) -> Network:
        state, world = self.state, self.world
        records = Records(
            self.folder,
            self.recipe,
            state,
            steps=self.steps,
            begun=self._done,
            shown=progress,
            writes=world.first,
        )
        with records:
            while state.epoch <= self.recipe.epochs:
                self._epoch(records)
                self._end_of_epoch(records)
        world.wait()  # until the first has written what is selected
        network = self._selected()
        if world.first:
            _save_weights(network, self.folder / MODEL)
            records.finish(state, self.spec, self.training, validated=len(self.validation), device=world.device)
        world.wait()
        return network.eval()

    def _epoch(self, records: Records) -> None:
        """What is left of one pass over the training images."""
        state, recipe = self.state, self.recipe
        seed = recipe.seed * 100_003 + state.epoch
        order = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(seed))
        while state.step < self.steps:
            started, before = time.perf_counter(), state.updates
            batch = order[state.step * recipe.batch : (state.step + 1) * recipe.batch]
            loss = self._step(batch[self.world.share(recipe.batch)])
            if not math.isfinite(loss):
                raise TrainingError(f"epoch {state.epoch}, step {state.step}: expected a finite loss, got {loss}")
            state.step, state.loss = state.step + 1, state.loss + loss
            if recipe.guard and state.updates // recipe.guard.updates > before // recipe.guard.updates:
                self._guard()
            state.seconds += time.perf_counter() - started
            records.step(state, loss, done=self._done)
            if self.world.agree(self.checkpoints.due(before, state.updates)):
                self._save()

    def _end_of_epoch(self, records: Records) -> None:
        """Measure, remember the best, write down."""
        state, started = self.state, time.perf_counter()
        row: dict[str, float] = {"epoch": state.epoch, "size": self._size, "loss": state.loss / self.steps}
        if len(self.validation):
            row |= self._validated(state.given, self.validation, key="epoch")
        before = [old for old in state.history if old["size"] == self._size]
        if self.recipe.select == "best" and all(row["robust"] > old["robust"] for old in before) and self.world.first:
            _save_weights(state.given, self.folder / BEST)
        state.seconds += time.perf_counter() - started
        state.history.append(row | {"hours": state.seconds / 3600})
        state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
        if self.world.first:
            records.epoch(state)
        self._save()

    def _selected(self) -> Network:
        """The network with the weights that the recipe wants of the run."""
        network = self.state.given
        if self.recipe.select == "best":
            network.load_state_dict(safetensors.torch.load_file(self.folder / BEST))
        return network

    def _save(self) -> None:
        """Write a checkpoint; the first process does, and all hold the same but for perturbations."""
        state = self.state.state_dict()
        if self.state.perturbation is not None:
            state["perturbation"] = self.world.gathered(self.state.perturbation)  # (processes, N, C, H, W)
        if self.world.first:
            self.checkpoints.save(self.state.updates, state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of `_save`."""
        if state["perturbation"] is not None:
            began = len(state["perturbation"])
            if began != self.world.size:
                raise TrainingError(f"expected the {began} processes that free training began with")
            state["perturbation"] = state["perturbation"][self.world.rank].to(self.world.device)
        self.state.load_state_dict(state)

    def _check_all_are_here(self) -> None:
        """Raise TrainingError unless every process goes on from the same checkpoint."""
        state = self.state
        place = torch.tensor([state.updates, state.epoch, state.step], device=self.world.device)
        if (self.world.gathered(place) != place).any():
            raise TrainingError(f"{self.folder}: expected all processes at one checkpoint; do all see this folder?")
        self.world.check_in_step(state.network)

    @property
    def _size(self) -> int:
        """Pixels a side of the images in this epoch."""
        return self.recipe.size_at(self.state.epoch, self.native)

    @property
    def _over(self) -> float:
        """Epochs that are over."""
        return self.state.epoch - 1 + self.state.step / self.steps

    @property
    def _done(self) -> float:
        """The share of the run's work that is over."""
        return self.recipe.done(self._over, self.native)

    def _step(self, indices: Tensor) -> float:
        """Train on some images; returns the loss, which is the mean over all processes.

        Batch norms see the images of their own process; their running statistics are averaged after each update.
        """
        state, recipe, world = self.state, self.recipe, self.world
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.lr_at(self._over, self.native)
        strength = recipe.strength(self._over, self.native)
        draw = generator(recipe.seed, state.updates, world.rank, "images")
        images, labels = augmented(self.training, indices, recipe.augmentation, draw)
        images, labels = resize(images.to(world.device), self._size), labels.to(world.device)
        attack = rescue(recipe) if state.rescued else recipe.attack
        if attack.kind == "free":
            return self._replays(images, labels, strength=strength)
        noise = generator(recipe.seed, state.updates, world.rank, "attack", device=world.device)
        adversarial = attacked(state.network, images, labels, attack, noise, strength=strength)
        state.trained.train()
        return self._update(loss_of(state.trained, images, adversarial, labels, recipe.objective))

    def _replays(self, images: Tensor, labels: Tensor, *, strength: float) -> float:
        """Train on one batch several times; returns the mean loss."""
        state, recipe = self.state, self.recipe
        replay = Replay(state, images, recipe.attack, strength=strength)
        losses = []
        for _ in range(recipe.attack.steps):
            state.trained.train()
            loss = loss_of(state.trained, images, replay.start(), labels, recipe.objective)
            losses.append(self._update(loss))
            if not math.isfinite(losses[-1]):
                break
            state.perturbation = replay.advance()
        return sum(losses) / len(losses)

    def _update(self, loss: Tensor) -> float:
        """One step of the optimizer, if the loss is finite; returns it, as the mean over all processes."""
        state, recipe, world = self.state, self.recipe, self.world
        mean = world.total([loss.item()])[0] / world.size
        if not math.isfinite(mean):
            return mean
        state.optimizer.zero_grad()
        loss.backward()
        parameters = list(state.network.parameters())
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if not bool(norm.isfinite()):
            return math.nan
        if recipe.clip:
            nn.utils.clip_grads_with_norm_(parameters, recipe.clip, norm)
        state.optimizer.step()
        world.mean_([value for value in state.network.buffers() if value.is_floating_point()])
        state.updates += 1
        if state.updates % CHECK_EVERY == 0:
            world.check_in_step(state.network)
        if state.average is not None:
            state.average.update(state.network, step=state.updates)
        return mean

    def _guard(self) -> None:
        """Let PGD take over if the network has stopped withstanding it, and give way again when it does."""
        state, guard = self.state, self.recipe.guard
        assert guard is not None
        images, size = self.validation[: guard.images], str(self._size)
        robust = self._validated(state.network, images, key="guard", steps=guard.steps)["robust"]
        best = state.guarded.get(size, 0.0)
        state.rescued = robust < guard.share * best
        state.guarded[size] = max(best, robust)

    def _validated(self, network: Network, images: Images, *, key: str, steps: int = STEPS) -> dict[str, float]:
        draw = generator(self.recipe.seed, self.state.updates, self.world.rank, key, device=self.world.device)
        return validate(network, images, self.recipe, self.world, size=self._size, steps=steps, generator=draw)


def generator(
    seed: int, update: int, rank: int, purpose: str, *, device: torch.device | None = None
) -> torch.Generator:
    """The random numbers of one purpose at one update in one process, so that resuming finds the same ones."""
    digest = hashlib.blake2b(f"{seed} {update} {rank} {purpose}".encode(), digest_size=8).digest()
    return torch.Generator(device or "cpu").manual_seed(int.from_bytes(digest, "little") >> 1)


def _save_weights(network: Network, path: Path) -> None:
    tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors))
