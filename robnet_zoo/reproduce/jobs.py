"""The jobs of a plan: trainings and measurements, each with its files, and the lock that gives it to one process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.data import Images
from robnet_zoo.reproduce.plan import PlanPart, PlanRow
from robnet_zoo.training import Recipe, TrainingEstimate, train
from robnet_zoo.training.loop import CARD, RESULT
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo.architecture import Architecture


@dataclass(frozen=True)
class TrainingJob:
    """The training of a row of a part with a seed."""

    part: PlanPart
    row: PlanRow
    seed: int
    architecture: Architecture
    recipe: Recipe
    images: Images
    folder: Path
    verb: ClassVar[str] = "train"

    @property
    def done(self) -> bool:
        """Return whether the training is over."""
        return (self.folder / CARD).is_file()

    @property
    def name(self) -> str:
        """Return the name of the trained model in agendas and results."""
        return f"{self.row.label}, seed {self.seed}"

    @property
    def workload(self) -> str:
        """Return what the time of the training depends on: everything but its seed."""
        return self.architecture.hash + self.recipe.model_copy(update={"seed": 0}).dumps() + self.images.sha256

    @property
    def hours(self) -> float:
        """Return the hours that the training took, if it is over."""
        return TrainingResult.load(self.folder / RESULT).epochs[-1].hours

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the paths that only one process at a time may write."""
        return (self.folder,)

    @property
    def trainings(self) -> tuple[TrainingJob, ...]:
        """Return the trainings without which this job cannot be finished: itself."""
        return (self,)

    def do(self, *, progress: bool) -> None:
        """Train the network, or resume its training."""
        train(self.architecture, self.images, self.recipe, self.folder, progress=progress)

    def seconds(self, estimate: TrainingEstimate) -> float:
        """Return how long the rest of the training takes, from its newest checkpoint on."""
        recipe, native, images = self.recipe, self.images.shape[-1], len(self.images.split()[0])
        updates = max((int(path.stem) for path in (self.folder / "checkpoints").glob("*.pt")), default=0)
        an_epoch = images // recipe.batch * recipe.updates_a_batch
        done = recipe.done(min(updates / an_epoch, recipe.epochs), native)
        return (1 - done) * estimate.hours * 3600

    def target(self, protocol: Protocol) -> Target:
        """Load the trained model for measuring."""
        target = load_target(str(self.folder), dtype=protocol.dtype)
        return replace(target, identity=target.identity.model_copy(update={"name": self.name}))

    def without(self, failed: Set[Path]) -> TrainingJob | None:
        """Return the job, or None if its training has failed. failed: folders of trainings."""
        return None if self.folder in failed else self


@dataclass(frozen=True)
class MeasuringJob:
    """The measurement of one trained model in a white box, or of all models that judge the images of one source.

    files: the results documents, in the order of `models`.
    """

    models: tuple[TrainingJob, ...]
    source: TrainingJob | None
    images: Images
    protocol: Protocol
    files: tuple[Path, ...]
    verb: ClassVar[str] = "measure"

    @property
    def done(self) -> bool:
        """Return whether all results are there."""
        return len(self.finished) == len(self.models)

    @property
    def finished(self) -> list[tuple[TrainingJob, Result]]:
        """Return the models whose results are complete, with these."""
        pairs = zip(self.models, self.files, strict=True)
        results = [(model, Result.load(path)) for model, path in pairs if path.is_file()]
        return [(model, result) for model, result in results if result.complete]

    @property
    def name(self) -> str:
        """Return the name of the job in agendas."""
        targets = self.models[0].name if len(self.models) == 1 else f"{len(self.models)} networks"
        through = "" if self.source is None else f" through {self.source.name}"
        return f"{targets}{through}: {self.protocol.name}"

    @property
    def trainings(self) -> tuple[TrainingJob, ...]:
        """Return the trainings that have to be over first: those of the models and of the source."""
        return self.models if self.source is None else (*self.models, self.source)

    def do(self, *, progress: bool) -> None:
        """Measure the models, or resume. The attacks on a source run once for all of them."""
        targets = [model.target(self.protocol) for model in self.models]
        if self.source is None:
            for target, path in zip(targets, self.files, strict=True):
                evaluate(target, self.images, self.protocol, output=path, progress=progress)
        else:
            source = self.source.target(self.protocol)
            evaluate_transfer(targets, source, self.images, self.protocol, outputs=self.files, progress=progress)

    def seconds(self, estimate: TrainingEstimate) -> float:
        """Return how long the whole measurement takes at most. Images that are fooled early take less."""
        _, num_classes = self.trainings[-1].architecture.signature
        # A forward pass alone counts as a gradient, and so does a further backward pass.
        gradients = sum(max(attack.usual_cost(num_classes)) for attack in self.protocol.attacks)
        return len(self.images) * gradients * (estimate.gradient_seconds or 0.0)

    def without(self, failed: Set[Path]) -> MeasuringJob | None:
        """Return what can be measured without failed trainings, or None. failed: their folders."""
        pairs = zip(self.models, self.files, strict=True)
        kept = [(model, path) for model, path in pairs if model.folder not in failed]
        if not kept or (self.source is not None and self.source.folder in failed):
            return None
        models, files = zip(*kept, strict=True)
        return replace(self, models=models, files=files)


Job = TrainingJob | MeasuringJob


@dataclass(frozen=True)
class AgendaLine:
    """A line of an agenda: a job, whether it is done, and how many seconds the rest of it takes."""

    job: Job
    done: bool
    seconds: float


@contextmanager
def claimed(job: Job) -> Iterator[bool]:
    """Hold a job for this process, and tell whether it got it.

    The operating system releases the locks when a process dies.
    """
    with ExitStack() as locks:
        try:
            for path in job.files:
                locks.enter_context(FileLock(lock_path(path), timeout=0))
        except Timeout:
            yield False
        else:
            yield True


def lock_path(path: Path) -> Path:
    """Return the lock file of a file or folder that jobs write, beside it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.job")


def file_name(text: str) -> str:
    """Return a text as part of a file name: small letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_").lower()
