"""The training loop: adversarial training (paper, equation 1 and appendix B) by a recipe, in one process or many."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from robnet_zoo.core import environment
from robnet_zoo.core.files import file_sha256, write_atomically
from robnet_zoo.core.waiting import SignOfLife
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images, PictureFiles, check_fits, check_labels, check_sample
from robnet_zoo.errors import DataError, TrainingError, WeightsError
from robnet_zoo.training.checkpoints import Checkpoints, Keeping
from robnet_zoo.training.claim import RUN, check_claim, write_claim
from robnet_zoo.training.distributed import World, joined
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.training.records import Records
from robnet_zoo.training.result import Epoch, InitialWeights, TrainingResult, model_card, selected
from robnet_zoo.training.state import State, initial_state
from robnet_zoo.training.updates import Paths, Updates, generator
from robnet_zoo.training.validation import STEPS, validate
from robnet_zoo.zoo.architecture import Architecture, config_of
from robnet_zoo.zoo.registry import CONFIG
from robnet_zoo.zoo.weights import find, state_sha256

MODEL = "model.safetensors"
CHOSEN = "chosen.safetensors"  # the weights that an unfinished run would give now
RESULT = "training.json"
CARD = "README.md"  # the last file that a run writes


def train(
    spec: Architecture,
    images: Images,
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    strict: bool = True,
    paths: Paths | None = None,
    keeping: Keeping | None = None,
    resume: bool = False,
    progress: bool = True,
) -> nn.Module:
    """Train a network adversarially, and return it in eval mode.

    A run that was stopped at any moment resumes from its last checkpoint when it is started again with the same
    arguments. Under torchrun, each process takes its part of every batch. Uses GPUs if there are any.

    Args:
        spec: the architecture, fitted to the images.
        images: the training images; the last tenth is held out and measured after every epoch (`Images.split`).
        recipe: how to train.
        output: a folder for `checkpoints/`, `history.csv` and TensorBoard events; after every epoch `training.json`
            and `chosen.safetensors`, the weights that the run would give then; at the end `model.safetensors` with
            timm's `config.json`, `curves.png` and the model card `README.md`.
        weights: what to begin with instead of random weights: a safetensors file, or the name of bundled weights, such
            as robnet_micro.cifar10.
        strict: whether `weights` have to be of this architecture; otherwise they give what it has too, by name and
            shape, and the rest is random.
        paths: the sub-network that each update trains, if it is not the whole network.
        keeping: when checkpoints are written besides after every epoch, and how many are kept.
        resume: fail unless the folder holds a run to resume.
        progress: show a line.

    Raises: WeightsError for weights of another architecture, or with none in common if not strict; DataError if the
        images do not fit the architecture or vanish; TrainingError if there are no weights though not strict, if
        the folder holds another run, a run at work or one whose checkpoints are gone, if the loss becomes NaN, or if
        nothing can be written; LeftError if another process is gone. The last checkpoint is then intact.
    """
    if resume and not (Path(output) / RUN).is_file():
        raise TrainingError(f"{output}: expected the folder of a run to resume, got none")
    if weights is None and not strict:
        raise TrainingError("strict: expected true for a run without weights, got false")
    training, validation = fitting(spec, images, recipe)
    if paths is not None and recipe.attack.in_backward_pass:
        raise TrainingError("attack.kind: expected pgd or n_fgsm for sub-networks, got free")
    if paths is not None and recipe.objective.distillation is not None:
        raise TrainingError("objective.distillation: expected none for sub-networks, whose average is of all of them")
    if paths is not None and recipe.compile:
        raise TrainingError("compile: expected false for sub-networks, which are others in each update, got true")
    file = None if weights is None else find(weights)
    if file is not None and not file.is_file():
        raise WeightsError(f"{weights}: expected a safetensors file, or the name of bundled weights")
    origin = None if file is None else InitialWeights(name=file.name, file_sha256=file_sha256(file), strict=strict)
    with ExitStack() as alone, joined() as world:
        check_world(recipe, world)
        with SignOfLife("building the network", shown=progress and world.first):
            state, folder = initial_state(spec, recipe, world, weights=file, strict=strict), Path(output)
            if world.first:
                _claim(folder, spec, recipe, training, paths, origin)
                alone.enter_context(_locked(folder))
                for directory in (folder, folder / "checkpoints"):
                    for leftover in directory.glob(".*.part"):  # of a process that was killed while it wrote
                        leftover.unlink(missing_ok=True)
            world.wait()
            _claim(folder, spec, recipe, training, paths, origin)
            checkpoints = Checkpoints(folder / "checkpoints", Keeping() if keeping is None else keeping)
            updates = Updates(state, training, recipe, world, paths=paths)
            run = TrainingRun(spec, updates, validation, folder, checkpoints, origin=origin)
        return run.to_the_end(progress=progress)


def fitting(spec: Architecture, images: Images, recipe: Recipe) -> tuple[Images, Images]:
    """Return the images to train on and those to measure.

    Args:
        spec: the architecture.
        images: all training images; the last tenth is held out.
        recipe: its batch, and how many of the held-out images it measures.

    Raises: DocumentError if the recipe is not one, DataError if the images do not fit the architecture, TrainingError
        if they are fewer than a batch, or files where the attack keeps perturbations.
    """
    Recipe.require(recipe, argument="recipe")
    if recipe.attack.remembers and isinstance(images.pixels, PictureFiles):
        kind = recipe.attack.kind
        raise TrainingError(f"attack.kind: expected images in memory for {kind}, which keeps perturbations, got files")
    input_size, num_classes = spec.signature
    check_fits(images, input_size=input_size, num_classes=num_classes)
    check_labels(images)
    training, validation = images.split()
    check_sample(validation, training, called="the last tenth, which is held out,")
    if len(training) < recipe.batch:
        raise TrainingError(f"expected at least one batch of {recipe.batch} training images, got {len(training)}")
    if images.classes and len(images.classes) != num_classes:
        raise DataError(f"{images.name}: expected {num_classes} classes, got {len(images.classes)}")
    measured = validation[: recipe.validation]
    check_sample(measured, validation[recipe.validation :], called="the held-out images that are measured")
    return training, measured


def check_world(recipe: Recipe, world: World) -> None:
    """Raise TrainingError for a recipe that these processes cannot follow."""
    if recipe.sync_bn and world.size > 1 and world.device.type != "cuda":
        raise TrainingError("sync_bn: expected GPUs, got processes on CPUs")
    if recipe.batch % world.size:
        raise TrainingError(f"expected a batch that {world.size} processes can share, got {recipe.batch} images")


def _claim(
    folder: Path,
    spec: Architecture,
    recipe: Recipe,
    training: Images,
    paths: Paths | None,
    origin: InitialWeights | None,
) -> None:
    """Write down which run this folder holds, or check that it holds this one."""
    folder.mkdir(parents=True, exist_ok=True)
    identity: dict[str, Any] = {"spec": spec.hash, "recipe": recipe.model_dump(mode="json"), "data": training.sha256}
    if paths is not None:
        identity["paths"] = paths.identity
    if origin is not None:
        identity["weights"] = origin.file_sha256
        if not origin.strict:
            identity["strict"] = False
    if check_claim(folder, identity):
        return
    spec.save_into(folder)
    recipe.save(folder / "recipe.json")
    write_claim(folder, identity)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder. The operating system releases the lock when a process dies."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError(f"{folder}: expected this run to be alone there, but another one is at work") from None


class TrainingRun:
    """A training run in this process."""

    def __init__(
        self,
        spec: Architecture,
        updates: Updates,
        validation: Images,
        folder: Path,
        checkpoints: Checkpoints,
        *,
        origin: InitialWeights | None,
    ) -> None:
        self.spec, self.updates, self.validation, self.folder = spec, updates, validation, folder
        self.checkpoints, self.origin = checkpoints, origin
        self.state, self.recipe, self.world = updates.state, updates.recipe, updates.world
        known = (folder / RESULT).is_file()
        self.written = TrainingResult.load(folder / RESULT) if known else None

    def to_the_end(self, *, progress: bool) -> nn.Module:
        """Do the rest of the run, from the newest checkpoint on, and return the network."""
        try:
            resumed = self.checkpoints.load_newest(self._restore)
            if not resumed:
                self._check_nothing_is_lost()
            self._check_all_are_here()
            if resumed and progress and self.world.first:
                logging.getLogger(__name__).warning("%s: %s", self.folder, self._position())
            return self._trained(progress=progress)
        except OSError as error:
            raise TrainingError(f"{self.folder}: cannot be written; the last checkpoint is intact: {error}") from error

    def _position(self) -> str:
        """Say where the run goes on."""
        state, epochs = self.state, self.recipe.epochs
        if state.epoch > epochs:
            return f"all {counted(epochs, 'epoch')} done before"
        return f"resuming at update {state.step + 1} of {self.updates.steps} in epoch {state.epoch} of {epochs}"

    def _trained(self, *, progress: bool) -> nn.Module:
        state, world = self.state, self.world
        with SignOfLife("loading TensorBoard", shown=progress and world.first):
            records = Records(
                self.folder,
                self.recipe,
                state,
                steps=self.updates.steps,
                begun=self.updates.done,
                shown=progress,
                writes=world.first,
            )
        with records:
            while state.epoch <= self.recipe.epochs:
                self._epoch(records)
                self._end_of_epoch(records)
        network = state.given
        network.load_state_dict(state.selected)
        if world.first:
            with SignOfLife("writing the weights, the curves and the model card", shown=progress):
                config = config_of(self.spec)
                if classes := self.updates.images.classes:
                    config["pretrained_cfg"]["label_names"] = classes
                write_atomically(self.folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
                _save_weights(network.state_dict(), self.folder / MODEL)
                (self.folder / CHOSEN).unlink(missing_ok=True)
                records.finish(state, self.spec.name)
                card = model_card(self._so_far(), self.spec, classes=classes)
                write_atomically(self.folder / CARD, card.encode())
        world.wait()
        return network.eval()

    def _epoch(self, records: Records) -> None:
        """Do the rest of a pass over the training images."""
        state, guard = self.state, self.recipe.guard
        started, before = time.perf_counter(), state.updates
        for loss in self.updates.epoch():
            if guard and state.updates // guard.updates > before // guard.updates and self.updates.strength:
                self._guard()
            state.seconds += time.perf_counter() - started
            records.step(state, loss, done=self.updates.done)
            if self.world.agree(self.checkpoints.due(before, state.updates)):
                self._save()
            started, before = time.perf_counter(), state.updates

    def _end_of_epoch(self, records: Records) -> None:
        """Measure, remember the best weights, write everything down."""
        state, started = self.state, time.perf_counter()
        self.world.check_in_step(state.network)
        loss = state.loss / self.updates.steps
        row: dict[str, float] = {"epoch": state.epoch, "size": self.updates.size, "loss": loss}
        if len(self.validation):
            row |= self._validated(state.given, self.validation, key="epoch")
        state.seconds += time.perf_counter() - started
        state.history.append(row | {"hours": state.seconds / 3600})
        if self.recipe.select == "best" and selected(_epochs(state), self.recipe).epoch == state.epoch:
            state.best = {key: value.clone() for key, value in state.given.state_dict().items()}
        state.next_epoch()
        if self.world.first:
            _save_weights(state.selected, self.folder / CHOSEN)
            records.epoch(state)
        self._save()
        if self.world.first:
            self._so_far()  # after the checkpoint, since this document says that there is one

    def _so_far(self) -> TrainingResult:
        """Return the result so far; it is written if an epoch has been added."""
        epochs, before = _epochs(self.state), self.written
        if before is not None and before.epochs == epochs:
            return before
        images, chosen = self.updates.images, self.folder / CHOSEN
        self.written = TrainingResult(
            architecture=self.spec.name,
            spec_hash=self.spec.hash,
            recipe=self.recipe,
            data=images.name,
            data_sha256=images.sha256,
            images=len(images),
            held_out=len(self.validation),
            begun_with=self.origin,
            file_sha256=file_sha256(chosen if chosen.exists() else self.folder / MODEL),
            state_sha256=state_sha256(self.state.selected),
            epochs=epochs,
            devices=tuple(dict.fromkeys([*(before.devices if before else ()), self.world.name])),
            software=environment.software(),
        )
        self.written.save(self.folder / RESULT)
        return self.written

    def _save(self) -> None:
        """Write a checkpoint, in the first process: all hold the same state, except for perturbations."""
        state = self.state.state_dict()
        if self.state.perturbation is not None:
            state["perturbation"] = self.world.gathered(self.state.perturbation)  # (processes, N, C, H, W)
        if self.world.first:
            self.checkpoints.save(self.state.updates, state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint of `_save`."""
        if state["perturbation"] is not None:
            began, here = len(state["perturbation"]), self.world.size
            if began != here:
                raise TrainingError(f"expected the {began} processes that free training began with, got {here}")
            state["perturbation"] = state["perturbation"][self.world.rank].to(self.world.device)
        self.state.load_state_dict(state)

    def _check_nothing_is_lost(self) -> None:
        """Raise TrainingError if the run had begun, since it would be overwritten."""
        if self.written is not None:
            weights = next((name for name in (CHOSEN, MODEL) if (self.folder / name).is_file()), "its weights")
            raise TrainingError(
                f"{self.folder / 'checkpoints'}: expected a checkpoint of this run, which came to epoch "
                f"{self.written.epochs[-1].epoch}, got none; begin another elsewhere, with {weights} if that is enough"
            )

    def _check_all_are_here(self) -> None:
        """Raise TrainingError unless every process resumes from the same checkpoint."""
        state = self.state
        position = torch.tensor([state.updates, state.epoch, state.step], device=self.world.device)
        if (self.world.gathered(position) != position).any():
            raise TrainingError(f"{self.folder}: expected all processes at one checkpoint; do all see this folder?")
        self.world.check_in_step(state.network)

    def _guard(self) -> None:
        """Let PGD take over if the network no longer withstands it, until it does again."""
        state, guard = self.state, self.recipe.guard
        assert guard is not None
        images, size = self.validation[: guard.images], str(self.updates.size)
        robust = self._validated(state.network, images, key="guard", steps=guard.steps)["robust"]
        best = max(state.guarded.values(), default=0.0)  # of all sizes, so that it also watches the first check of one
        state.rescued = robust < guard.share * best
        state.guarded[size] = max(state.guarded.get(size, 0.0), robust)

    def _validated(self, network: nn.Module, images: Images, *, key: str, steps: int = STEPS) -> dict[str, float]:
        draw = generator(self.recipe.seed, self.state.updates, self.world.rank, key, device=self.world.device)
        return validate(network, images, self.recipe, self.world, size=self.updates.size, steps=steps, generator=draw)


def _epochs(state: State) -> tuple[Epoch, ...]:
    return tuple(map(Epoch.parse, state.history))


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    tensors = {key: value.cpu().contiguous() for key, value in weights.items()}
    write_atomically(path, safetensors.torch.save(tensors))
