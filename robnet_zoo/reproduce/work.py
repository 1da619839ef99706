"""A plan as work: what has to be trained and measured, what is there already, and how long the rest takes.

Everything lies in one folder: `models/` holds training runs by architecture, data, recipe and seed, so that plans that
share it share their models; `results/` holds a document a measurement. The same command, given again, goes on; given
beside itself, it shares the work: who begins a job locks it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from filelock import FileLock, Timeout

from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.benchmarks.result import DataIdentity, Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.environment import device, software
from robnet_zoo.data import Images, data_sets, load, resized
from robnet_zoo.errors import DataError, DocumentError, ReproduceError, TargetError, TrainingError
from robnet_zoo.reproduce.plan import Part, Plan, Row
from robnet_zoo.reproduce.result import Measured, Outcomes, Reproduced, Trained
from robnet_zoo.reproduce.scale import Scale
from robnet_zoo.reproduce.speed import Speed, speed
from robnet_zoo.training import Recipe, load_recipe, train
from robnet_zoo.training.loop import CARD
from robnet_zoo.zoo.architecture import Architecture, costs

WAIT = 5.0  # seconds between looks at jobs that others have begun


@dataclass(frozen=True)
class Source:
    """Images to train on and to measure on, as `data.load` takes them."""

    train: str
    test: str


@dataclass(frozen=True)
class Run:
    """A training: a row of a part with a seed."""

    part: Part
    row: Row
    seed: int
    architecture: Architecture
    recipe: Recipe
    images: Images
    folder: Path
    verb: ClassVar[str] = "train"

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return (self.folder / CARD).is_file()

    @property
    def name(self) -> str:
        """What agendas and results call it."""
        return f"{self.row.label}, seed {self.seed}"

    def do(self, *, progress: bool) -> None:
        """Train, or go on."""
        train(self.architecture, self.images, self.recipe, self.folder, progress=progress)

    def seconds(self, of: Speed) -> float:
        """How long the rest of it takes, from its newest checkpoint on."""
        recipe, native, images = self.recipe, self.images.shape[-1], len(self.images.split()[0])
        updates = max((int(path.stem) for path in (self.folder / "checkpoints").glob("*.pt")), default=0)
        an_epoch = images // recipe.batch * recipe.updates_a_batch
        over = recipe.done(min(updates / an_epoch, recipe.epochs), native)
        return (1 - over) * of.train(recipe, images, native)

    def target(self, protocol: Protocol) -> Target:
        """The trained model, ready to be measured."""
        found = load_target(str(self.folder), dtype=protocol.dtype)
        return replace(found, identity=found.identity.model_copy(update={"name": self.name}))


@dataclass(frozen=True)
class Measuring:
    """A measurement: of one trained model in a white box, or in a transfer of all that judge what one source gives.

    paths: of their documents, in the order of runs.
    """

    runs: tuple[Run, ...]
    source: Run | None
    images: Images
    protocol: Protocol
    paths: tuple[Path, ...]
    verb: ClassVar[str] = "measure"

    @property
    def done(self) -> bool:
        """Whether its documents are there."""
        return len(self.finished) == len(self.runs)

    @property
    def finished(self) -> list[tuple[Run, Result]]:
        """Those whose documents are there."""
        found = [(run, Result.load(path)) for run, path in zip(self.runs, self.paths, strict=True) if path.is_file()]
        return [(run, result) for run, result in found if result.complete]

    @property
    def name(self) -> str:
        """What agendas call it."""
        who = self.runs[0].name if len(self.runs) == 1 else f"{len(self.runs)} networks"
        through = "" if self.source is None else f" through {self.source.name}"
        return f"{who}{through}: {self.protocol.name}"

    def do(self, *, progress: bool) -> None:
        """Measure, or go on. The attacks on a source run once for all."""
        targets = [run.target(self.protocol) for run in self.runs]
        if self.source is None:
            for target, path in zip(targets, self.paths, strict=True):
                evaluate(target, self.images, self.protocol, output=path, progress=progress)
        else:
            source = self.source.target(self.protocol)
            evaluate_transfer(targets, source, self.images, self.protocol, outputs=self.paths, progress=progress)

    def seconds(self, of: Speed) -> float:
        """How long it takes in all, at most."""
        return of.measure(self.protocol, len(self.images))

    def without(self, failed: Set[Path]) -> Measuring | None:
        """What can be measured of it where the trainings in these folders cannot go on."""
        kept = [(run, path) for run, path in zip(self.runs, self.paths, strict=True) if run.folder not in failed]
        if not kept or (self.source is not None and self.source.folder in failed):
            return None
        runs, paths = zip(*kept, strict=True)
        return replace(self, runs=runs, paths=paths)


Job = Run | Measuring


@dataclass(frozen=True)
class Line:
    """A line of an agenda: seconds, of what is left of it."""

    job: Job
    done: bool
    seconds: float


class Reproduction:
    """A plan at a scale, on data, in a folder.

    sources: of each part of the plan, in its order. seeds: of the trainings. beside: further models by the names that
    `robnet-zoo benchmark` takes, which are measured as they are; where the scale has other images than theirs, or their
    package is missing, the result says why not. Raises DocumentError, DataError, ReproduceError.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Source],
        output: str | os.PathLike[str],
        *,
        scale: Scale | None = None,
        seeds: Sequence[int] = (0,),
        beside: Sequence[str] = (),
    ) -> None:
        if len(sources) != len(plan.parts):
            names = ", ".join(part.data for part in plan.parts)
            raise ReproduceError(f"{plan.name}: expected images of {names}, to train and to test, got {len(sources)}")
        for part, source in zip(plan.parts, sources, strict=True):
            _check(plan, part, source)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ReproduceError(
                "expected a process alone, got torchrun's: the same command, beside itself, shares work"
            )
        if not seeds or len(set(seeds)) < len(seeds):
            raise ReproduceError(f"expected seeds that differ, got {', '.join(map(str, seeds)) or 'none'}")
        self.plan, self.sources, self.folder = plan, tuple(sources), Path(output)
        self.scale, self.seeds, self.beside = Scale() if scale is None else scale, tuple(seeds), tuple(beside)
        self.notes: list[str] = []

    @cached_property
    def classes(self) -> list[int]:
        """Of each part, how many."""
        return [train.count_classes() for train, _ in self._whole]

    @cached_property
    def _whole(self) -> list[tuple[Images, Images]]:
        return [(load(source.train, train=True), load(source.test)) for source in self.sources]

    @cached_property
    def images(self) -> list[tuple[Images, Images]]:
        """Of each part, the images to train on and to measure on, at this scale."""
        found = []
        for source, (whole, test) in zip(self.sources, self._whole, strict=True):
            if whole.shape[0] != test.shape[0] or (whole.classes and test.classes and whole.classes != test.classes):
                raise DataError(f"{source.test}: expected images of the classes and channels of {source.train}")
            if whole.shape[1] != whole.shape[2] or test.shape != whole.shape:
                raise DataError(f"{source.test}: expected square images as those to train on, got {test.shape}")
            if int(test.labels.max()) >= whole.count_classes():
                raise DataError(f"{source.test}: expected labels below {whole.count_classes()}, as in {source.train}")
            side = max(1, round(self.scale.size * whole.shape[-1]))
            few = (
                max(1, round(share * len(each)))
                for share, each in ((self.scale.images, whole), (self.scale.test_images, test))
            )
            found.append(tuple(resized(each[:n], side) for each, n in zip((whole, test), few, strict=True)))
        return [(train, test) for train, test in found]

    @cached_property
    def runs(self) -> list[Run]:
        """Every training, seed by seed, so that one row of all is there early."""
        found = []
        for seed in dict.fromkeys((*self.seeds, *map(self._copy_of, self.seeds))):
            for part, (images, _) in zip(self.plan.parts, self.images, strict=True):
                if seed in self.seeds or part.sources is not None:
                    found += [self._run(part, row, seed, images) for row in part.rows]
        return found

    def _copy_of(self, seed: int) -> int:
        """The seed of an independent training: the next of the seeds, or where there is one alone, the one after it."""
        if len(self.seeds) == 1:
            return seed + 1
        return self.seeds[(self.seeds.index(seed) + 1) % len(self.seeds)]

    def _run(self, part: Part, row: Row, seed: int, images: Images) -> Run:
        index = self.plan.parts.index(part)
        whole = row.published.fitted(input_size=self._whole[index][0].shape)
        classes = self.classes[index]
        architecture = self.scale.architecture(whole).fitted(num_classes=classes, input_size=images.shape)
        costs(architecture)  # raises where the images are too small for it
        recipe = self.scale.recipe(load_recipe(part.recipe), seed=seed)
        trained_on = len(images.split()[0])
        if trained_on < recipe.batch:
            expected = f"expected at least one batch of {recipe.batch} training images, got {trained_on}"
            raise ReproduceError(f"{images.name} at the scale {self.scale.name}: {expected}")
        digest = hashlib.sha256()
        for text in (architecture.hash, recipe.dumps(), images.sha256):
            digest.update(text.encode())
        name = f"{_plain(row.label)}.{part.data}.seed{seed}.{digest.hexdigest()[:10]}"
        return Run(part, row, seed, architecture, recipe, images, self.folder / "models" / name)

    @cached_property
    def measurings(self) -> list[Measuring]:
        """Every measurement."""
        found = []
        for part, (_, test) in zip(self.plan.parts, self.images, strict=True):
            protocol = self.scale.protocol(load_protocol(part.protocol), n=len(test))
            by = {(run.row.label, run.seed): run for run in self.runs if run.part == part}
            for seed in self.seeds:
                runs = [by[row.label, seed] for row in part.rows]
                groups: list[tuple[Run | None, list[Run]]] = [(None, [run]) for run in runs]
                if part.sources == "copy":
                    groups = [(by[run.row.label, self._copy_of(seed)], [run]) for run in runs]
                elif part.sources == "all":
                    groups = [(by[run.row.label, self._copy_of(seed)], runs) for run in runs]
                for source, targets in groups:
                    paths = tuple(self._path(run, source, protocol, test) for run in targets)
                    found.append(Measuring(tuple(targets), source, test, protocol, paths))
        return found

    def _path(self, run: Run, source: Run | None, protocol: Protocol, test: Images) -> Path:
        digest = _digest(protocol, test)
        through = "" if source is None else f".from.{source.folder.name}"
        return self.folder / "results" / f"{run.folder.name}.{protocol.name}.{digest}{through}.json"

    @cached_property
    def jobs(self) -> list[Job]:
        """All work in the order in which it is done: what is trained is measured as soon as it can be."""
        found: list[Job] = []
        waiting = list(self.measurings)
        for run in self.runs:
            found.append(run)
            trained = {job.folder for job in found if isinstance(job, Run)}
            ready = [each for each in waiting if _needs(each) <= trained]
            found += ready
            waiting = [each for each in waiting if each not in ready]
        return found

    @cached_property
    def speeds(self) -> dict[str, Speed]:
        """Of each architecture and recipe but for the seed, measured once."""
        return {key: speed(run.architecture, run.recipe) for key, run in {_kind(run): run for run in self.runs}.items()}

    def agenda(self) -> list[Line]:
        """What will be trained and measured, what is there already, and how long the rest takes at measured speed."""
        lines = []
        for job in self.jobs:
            run = job if isinstance(job, Run) else job.source or job.runs[0]
            done = job.done
            lines.append(Line(job, done, 0.0 if done else job.seconds(self.speeds[_kind(run)])))
        return lines

    @property
    def document(self) -> Path:
        """Where the document of it all is: named after the plan, and after the scale if that is not the whole."""
        name = self.plan.name if self.scale.whole else f"{self.plan.name}.{self.scale.name}"
        return self.folder / f"{name}.json"

    def run(self, *, progress: bool = True) -> Reproduced:
        """Whatever is left, and the document of it all, which is saved after every measurement.

        A training that cannot go on is left out, with what waits for it, and told in `notes`; the rest is done.
        """
        pending = [line for line in self.agenda() if not line.done]
        total, failed = len(pending), set[Path]()
        while pending:
            left = sum(line.seconds for line in pending)
            taken = None
            for line in pending:
                try:
                    if self._do(line, left, total - len(pending), total, progress):
                        taken = line
                        break
                except TrainingError as error:
                    assert isinstance(line.job, Run)
                    failed.add(line.job.folder)
                    self.notes.append(f"left out: {line.job.name}: {error}")
                    break
            left_over = [(line, _possible(line.job, failed)) for line in pending]
            pending = [replace(line, job=job) for line, job in left_over if job is not None and not job.done]
            if taken is not None and isinstance(taken.job, Measuring):
                self.result(progress=progress).save(self.document)
            elif taken is None and len(pending) == len(left_over):
                time.sleep(WAIT)  # others are at work on all of it
        result = self.result(beside=True, progress=progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        result.save(self.document)
        return result

    def _do(self, line: Line, left: float, done: int, total: int, progress: bool) -> bool:
        """Whether this job was done here; not if it is over, another process has it, or it waits for a training."""
        job = line.job
        if isinstance(job, Measuring) and not all(one.done for one in (*job.runs, job.source) if one):
            return False
        with _claimed(job) as mine:
            if not mine or job.done:
                return False
            if progress:
                print(
                    f"[{done + 1}/{total}] {job.verb} {job.name}, {spell(line.seconds)} of {spell(left)}",
                    file=sys.stderr,
                )
            job.do(progress=progress)
        return True

    def result(self, *, beside: bool = False, progress: bool = True) -> Reproduced:
        """What is there so far; with the models from elsewhere, which are measured then, if they are asked for."""
        parts = []
        for part, (training, test) in zip(self.plan.parts, self.images, strict=True):
            mine = [each for each in self.measurings if each.runs[0].part == part]
            protocol = mine[0].protocol
            found = [(run, each.source, result) for each in mine for run, result in each.finished]
            rows = [row.label for row in part.rows]
            found.sort(key=lambda each: (self.seeds.index(each[0].seed), rows.index(each[0].row.label)))
            models = [_trained(*each) for each in found]
            asked = self.beside if beside else ()
            others = [one for name in asked if (one := self._beside(name, part, test, protocol, progress))]
            parts.append(
                Measured(
                    part=part.data,
                    training=DataIdentity(name=training.name, sha256=training.sha256, n=len(training)),
                    data=DataIdentity(name=test.name, sha256=test.sha256, n=len(test)),
                    size=test.shape[-1],
                    recipe=mine[0].runs[0].recipe,
                    protocol=protocol,
                    models=tuple(models + others),
                )
            )
        return Reproduced(
            plan=self.plan,
            scale=self.scale,
            seeds=self.seeds,
            complete=all(job.done for job in self.jobs),
            parts=tuple(parts),
            software=software(),
            device=device("cuda" if torch.cuda.is_available() else "cpu"),
        )

    def _beside(self, name: str, part: Part, test: Images, protocol: Protocol, progress: bool) -> Trained | None:
        """A model from elsewhere, measured in the same way; None, and a note, where it cannot be."""
        if part.sources is not None:
            self.notes.append(f"not beside: {name}: in a transfer the sources are the rows")
            return None
        try:
            target = load_target(name, dtype=protocol.dtype)
            place = f"{_plain(name)}.{part.data}.{protocol.name}.{_digest(protocol, test)}.json"
            path = self.folder / "results" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{place}.job")):  # of several processes one measures it, the others read it
                found = evaluate(target, test, protocol, output=path, progress=progress)
        except (TargetError, DataError, DocumentError) as error:
            self.notes.append(f"not beside: {error}")
            return None
        except (RuntimeError, ValueError) as error:  # of a model that does not take images of this size
            self.notes.append(" ".join(f"not beside: {name}: {error}".split()))
            return None
        return Trained(
            label=name,
            hash=found.model.spec_hash,
            state_sha256=found.model.state_sha256,
            file_sha256=found.model.file_sha256,
            parameters=found.model.parameters or 0,
            outcomes=_outcomes(found),
            alarms=found.alarms,
        )


def _check(plan: Plan, part: Part, source: Source) -> None:
    """Raise ReproduceError for what would be found out after hours: an attack, a threat or a data set that is wrong."""
    protocol = load_protocol(part.protocol)
    load_recipe(part.recipe)
    titles = ["clean", *(attack.title for attack in protocol.attacks)]
    if plan.order_by not in titles:
        raise ReproduceError(f"{plan.name}: order_by: expected one of {', '.join(titles)}, got {plan.order_by}")
    if (protocol.threat == "transfer") != (part.sources is not None):
        expected = "sources for a transfer, and none for a white box"
        raise ReproduceError(f"{plan.name}: {part.data}: expected {expected}, got the protocol {protocol.name}")
    for name in (source.train, source.test):
        kind = name.partition(":")[0]
        if kind in data_sets() and kind.rpartition("-")[0] != part.data:
            raise ReproduceError(f"{plan.name}: expected images of {part.data} here, got {name}")


def _digest(protocol: Protocol, test: Images) -> str:
    """Of what is measured on what."""
    return hashlib.sha256(f"{protocol.dumps()}{test.sha256}".encode()).hexdigest()[:10]


def _trained(run: Run, source: Run | None, found: Result) -> Trained:
    cost = costs(run.architecture)
    return Trained(
        label=run.row.label,
        seed=run.seed,
        source=None if source is None else source.row.label,
        hash=run.architecture.hash,
        state_sha256=found.model.state_sha256,
        file_sha256=found.model.file_sha256,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        hours=_hours(run.folder),
        outcomes=_outcomes(found),
        alarms=found.alarms,
    )


def _needs(job: Job) -> set[Path]:
    """The folders of the trainings without which a job cannot be done."""
    if isinstance(job, Run):
        return {job.folder}
    return {run.folder for run in (*job.runs, job.source) if run}


def _possible(job: Job, failed: Set[Path]) -> Job | None:
    """What is left of a job where the trainings in these folders cannot go on."""
    if isinstance(job, Run):
        return None if job.folder in failed else job
    return job.without(failed)


def _kind(run: Run) -> str:
    """What its speed depends on."""
    return run.architecture.hash + run.recipe.model_copy(update={"seed": 0}).dumps()


def _hours(folder: Path) -> float:
    """Of a training run, as the last line of its history says."""
    header, *rows = (folder / "history.csv").read_text().split()
    return float(rows[-1].split(",")[header.split(",").index("hours")])


def _outcomes(result: Result) -> tuple[Outcomes, ...]:
    return tuple(Outcomes(attack=each.attack, correct="".join(map(str, each.correct))) for each in result.measurements)


@contextmanager
def _claimed(job: Job) -> Iterator[bool]:
    """Whether this process alone has the job, while it does; the system lets go of the lock when a process dies."""
    places = (job.folder,) if isinstance(job, Run) else job.paths
    with ExitStack() as locks:
        try:
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                locks.enter_context(FileLock(place.with_name(f".{place.name}.job"), timeout=0))
        except Timeout:
            yield False
        else:
            yield True


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_").lower()


def spell(seconds: float) -> str:
    """A length of time in words."""
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
