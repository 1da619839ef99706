"""A plan as work: what has to be trained and measured, what is there already, and how long the rest takes.

Everything is in one folder. `models/` holds training runs by architecture, data, recipe and seed, so plans share the
models that they have in common; `results/` holds a document for each measurement. After an interruption, the same
command resumes. Processes that work in one folder share the jobs: a process that begins a job locks it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock

from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.benchmarks.result import DataIdentity, Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.core.environment import device, software
from robnet_zoo.data import Images, check_sample, data_sets, load, resized
from robnet_zoo.errors import DataError, DocumentError, ReproduceError, TargetError, TrainingError
from robnet_zoo.reproduce.jobs import AgendaLine, Job, MeasuringJob, TrainingJob, claimed, file_name, lock_path
from robnet_zoo.reproduce.plan import Plan, PlanPart, PlanRow
from robnet_zoo.reproduce.result import ModelResult, Outcomes, PartResult, ReproductionResult
from robnet_zoo.reproduce.scale import Scale
from robnet_zoo.training import TrainingEstimate, estimate, load_recipe
from robnet_zoo.zoo.architecture import costs

LONGEST = 2.0  # seconds: batches that take longer to train on are timed by smaller ones
WAIT = 5.0  # seconds, before looking again at jobs that other processes have begun


@dataclass(frozen=True)
class Source:
    """Images to train on and to measure on, as `data.load` takes them."""

    train: str
    test: str


class Reproduction:
    """A plan at a scale, on data, in a folder.

    Args:
        plan: the table or figure.
        sources: the images of each part of the plan, in its order.
        output: the folder of models, results and documents.
        scale: the fraction of what the plan asks for; by default all of it.
        seeds: the seeds of the trainings.
        beside: further models by the names that `robnet-zoo benchmark` takes, measured as they are. Where a model does
            not take the images of the scale, or its package is missing, `notes` says so.

    Raises: ReproduceError for a plan that cannot be carried out with these arguments. The methods also raise
        DocumentError and DataError.

    >>> sources = [Source("cifar10-train:data", "cifar10-test:data")]
    >>> reproduction = Reproduction(load_plan("table1"), sources, "runs/tables", scale=load_scale("small"))
    >>> result = reproduction.run()  # doctest: +SKIP
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
                "expected a single process, got torchrun's; start the same command several times to share the work"
            )
        if not seeds or len(set(seeds)) < len(seeds):
            raise ReproduceError(f"expected seeds that differ, got {', '.join(map(str, seeds)) or 'none'}")
        self.plan, self.sources, self.folder = plan, tuple(sources), Path(output)
        self.scale, self.seeds, self.beside = Scale() if scale is None else scale, tuple(seeds), tuple(beside)
        self.notes: list[str] = []  # what was left out, and why
        self._estimates: dict[str, TrainingEstimate] = {}

    @cached_property
    def _whole(self) -> list[tuple[Images, Images]]:
        """Return all images of each part, to train on and to measure on."""
        return [(load(source.train, train=True), load(source.test)) for source in self.sources]

    @cached_property
    def images(self) -> list[tuple[Images, Images]]:
        """Return the images of each part at this scale, to train on and to measure on."""
        return [self._scaled(source, *whole) for source, whole in zip(self.sources, self._whole, strict=True)]

    def _scaled(self, source: Source, train: Images, test: Images) -> tuple[Images, Images]:
        """Return the images of a part at this scale. Raises DataError if the two sets do not belong together."""
        if train.shape[0] != test.shape[0] or (train.classes and test.classes and train.classes != test.classes):
            raise DataError(f"{source.test}: expected images of the classes and channels of {source.train}")
        if train.shape[1] != train.shape[2] or test.shape != train.shape:
            raise DataError(f"{source.test}: expected square images as those to train on, got {test.shape}")
        if int(test.labels.max()) >= train.count_classes():
            raise DataError(f"{source.test}: expected labels below {train.count_classes()}, as in {source.train}")
        side = max(1, round(self.scale.size * train.shape[-1]))

        def part(whole: Images, share: float) -> Images:
            n = max(1, round(share * len(whole)))
            check_sample(whole[:n], whole[n:], called=f"the first {n:,} images, the share of the scale,")
            return resized(whole[:n], side)

        return part(train, self.scale.images), part(test, self.scale.test_images)

    @cached_property
    def trainings(self) -> list[TrainingJob]:
        """Return every training, seed by seed, so that a first model of each row is there early."""
        jobs = []
        for seed in dict.fromkeys((*self.seeds, *map(self._copy_of, self.seeds))):
            for index, part in enumerate(self.plan.parts):
                if seed in self.seeds or part.sources is not None:
                    jobs += [self._training(index, row, seed) for row in part.rows]
        return jobs

    def _copy_of(self, seed: int) -> int:
        """Return the seed of an independent training: the next of the seeds, or, of a single seed, the one after it."""
        if len(self.seeds) == 1:
            return seed + 1
        return self.seeds[(self.seeds.index(seed) + 1) % len(self.seeds)]

    def _training(self, index: int, row: PlanRow, seed: int) -> TrainingJob:
        """Return the training of a row of a part, by its index. Raises ReproduceError, or DocumentError."""
        part, images, whole = self.plan.parts[index], self.images[index][0], self._whole[index][0]
        scaled = self.scale.architecture(row.published.fitted(input_size=whole.shape))
        architecture = scaled.fitted(num_classes=whole.count_classes(), input_size=images.shape)
        costs(architecture)  # raises where the images are too small for it
        recipe = self.scale.recipe(load_recipe(part.recipe), seed=seed)
        trained_on = len(images.split()[0])
        if trained_on < recipe.batch:
            expected = f"expected at least one batch of {recipe.batch} training images, got {trained_on}"
            raise ReproduceError(f"{images.name} at the scale {self.scale.name}: {expected}")
        digest = hashlib.sha256()
        # Other words are the same training, and so are the defaults of fields that came later.
        what = recipe.model_dump_json(exclude={"description"}, exclude_defaults=True)
        for text in (architecture.hash, what, images.sha256):
            digest.update(text.encode())
        name = f"{file_name(row.label)}.{part.data}.seed{seed}.{digest.hexdigest()[:10]}"
        return TrainingJob(part, row, seed, architecture, recipe, images, self.folder / "models" / name)

    @cached_property
    def measurements(self) -> list[MeasuringJob]:
        """Return every measurement."""
        jobs = []
        for part, (_, test) in zip(self.plan.parts, self.images, strict=True):
            protocol = self.scale.protocol(load_protocol(part.protocol), n=len(test))
            trained = {(job.row.label, job.seed): job for job in self.trainings if job.part == part}
            for seed in self.seeds:
                models = [trained[row.label, seed] for row in part.rows]
                groups: list[tuple[TrainingJob | None, list[TrainingJob]]] = [(None, [model]) for model in models]
                if part.sources == "copy":
                    groups = [(trained[model.row.label, self._copy_of(seed)], [model]) for model in models]
                elif part.sources == "all":
                    groups = [(trained[model.row.label, self._copy_of(seed)], models) for model in models]
                for source, targets in groups:
                    files = tuple(self._file(target, source, protocol, test) for target in targets)
                    jobs.append(MeasuringJob(tuple(targets), source, test, protocol, files))
        return jobs

    def _file(self, model: TrainingJob, source: TrainingJob | None, protocol: Protocol, test: Images) -> Path:
        through = "" if source is None else f".from.{source.folder.name}"
        name = f"{model.folder.name}.{protocol.name}.{_digest(protocol, test)}{through}.json"
        return self.folder / "results" / name

    @cached_property
    def jobs(self) -> list[Job]:
        """Return all work in the order in which it is done: each model is measured as soon as it can be."""
        jobs: list[Job] = []
        trained: set[Path] = set()
        waiting = list(self.measurements)
        for training in self.trainings:
            jobs.append(training)
            trained.add(training.folder)
            ready = [job for job in waiting if {needed.folder for needed in job.trainings} <= trained]
            jobs += ready
            waiting = [job for job in waiting if job not in ready]
        return jobs

    def _estimate(self, training: TrainingJob) -> TrainingEstimate:
        """Return how long a training and attacks on its network take here, timed once for all seeds."""
        key = training.workload
        if key not in self._estimates:
            self._estimates[key] = estimate(
                training.architecture, training.images, training.recipe, updates=1, longest=LONGEST, progress=False
            )
        return self._estimates[key]

    def agenda(self) -> list[AgendaLine]:
        """Return what has to be trained and measured, what is there already, and how long the rest takes here."""
        lines = []
        for job in self.jobs:
            done = job.done
            # The attacks run on the source of a transfer, which is the last of the trainings.
            lines.append(AgendaLine(job, done, 0.0 if done else job.seconds(self._estimate(job.trainings[-1]))))
        return lines

    @property
    def document(self) -> Path:
        """Return the file of the result, named after the plan and, unless that is the whole, after the scale."""
        name = self.plan.name if self.scale.whole else f"{self.plan.name}.{self.scale.name}"
        return self.folder / f"{name}.json"

    def run(self, *, progress: bool = True) -> ReproductionResult:
        """Do whatever is left, and return the result, which is saved after every measurement.

        A training that cannot continue is left out together with what needs it, and `notes` says so; the rest is done.
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
                    assert isinstance(line.job, TrainingJob)
                    failed.add(line.job.folder)
                    self.notes.append(f"left out: {line.job.name}: {error}")
                    break
            before = len(pending)
            possible = [(line, line.job.without(failed)) for line in pending]
            pending = [replace(line, job=job) for line, job in possible if job is not None and not job.done]
            if taken is not None and isinstance(taken.job, MeasuringJob):
                self.result(progress=progress).save(self.document)
            elif taken is None and len(pending) == before:
                time.sleep(WAIT)  # other processes are working on all of it
        result = self.result(beside=True, progress=progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        result.save(self.document)
        return result

    def _do(self, line: AgendaLine, left: float, done: int, total: int, progress: bool) -> bool:
        """Do a job, and return whether this process did it.

        It does not if the job is done, if another process holds it, or if a training that it needs is not over.
        """
        job = line.job
        if isinstance(job, MeasuringJob) and not all(training.done for training in job.trainings):
            return False
        with claimed(job) as mine:
            if not mine or job.done:
                return False
            if progress:
                times = f"{spell(line.seconds)} of {spell(left)}"
                print(f"[{done + 1}/{total}] {job.verb} {job.name}, {times}", file=sys.stderr)
            job.do(progress=progress)
        return True

    def result(self, *, beside: bool = False, progress: bool = True) -> ReproductionResult:
        """Return what is there so far. beside: also measure and include the models from elsewhere."""
        parts = []
        for part, (training, test) in zip(self.plan.parts, self.images, strict=True):
            measurements = [job for job in self.measurements if job.models[0].part == part]
            protocol = measurements[0].protocol
            finished = [(model, job.source, result) for job in measurements for model, result in job.finished]
            rows = [row.label for row in part.rows]
            finished.sort(key=lambda each: (self.seeds.index(each[0].seed), rows.index(each[0].row.label)))
            models = [_model_result(*each) for each in finished]
            if beside:
                others = [self._beside(name, part, test, protocol, progress) for name in self.beside]
                models += [model for model in others if model is not None]
            parts.append(
                PartResult(
                    part=part.data,
                    training=DataIdentity(name=training.name, sha256=training.sha256, n=len(training)),
                    data=DataIdentity(name=test.name, sha256=test.sha256, n=len(test)),
                    size=test.shape[-1],
                    recipe=measurements[0].models[0].recipe,
                    protocol=protocol,
                    models=tuple(models),
                )
            )
        return ReproductionResult(
            plan=self.plan,
            scale=self.scale,
            seeds=self.seeds,
            complete=all(job.done for job in self.jobs),
            parts=tuple(parts),
            software=software(),
            device=device("cuda" if torch.cuda.is_available() else "cpu"),
        )

    def _beside(
        self, name: str, part: PlanPart, test: Images, protocol: Protocol, progress: bool
    ) -> ModelResult | None:
        """Measure a model from elsewhere in the same way, or note why that is not possible and return None."""
        if part.sources is not None:
            self.notes.append(f"not beside: {name}: in a transfer the sources are the rows")
            return None
        path = self.folder / "results" / f"{file_name(name)}.{part.data}.{protocol.name}.{_digest(protocol, test)}.json"
        try:
            target = load_target(name, dtype=protocol.dtype)
            with FileLock(lock_path(path)):  # one of several processes measures it, the others read the result
                result = evaluate(target, test, protocol, output=path, progress=progress)
        except (TargetError, DataError, DocumentError) as error:
            self.notes.append(f"not beside: {error}")
            return None
        except (RuntimeError, ValueError) as error:  # from a model that does not take images of this size
            self.notes.append(" ".join(f"not beside: {name}: {error}".split()))
            return None
        return ModelResult(
            label=name,
            hash=result.model.spec_hash,
            state_sha256=result.model.state_sha256,
            file_sha256=result.model.file_sha256,
            parameters=result.model.parameters or 0,
            outcomes=_outcomes(result),
            alarms=result.alarms,
        )


def _check(plan: Plan, part: PlanPart, source: Source) -> None:
    """Raise ReproduceError for an attack, threat or data set that would otherwise turn out wrong after hours."""
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
    """Return a short hash of what is measured and on which images."""
    return hashlib.sha256(f"{protocol.dumps()}{test.sha256}".encode()).hexdigest()[:10]


def _model_result(model: TrainingJob, source: TrainingJob | None, result: Result) -> ModelResult:
    cost = costs(model.architecture)
    return ModelResult(
        label=model.row.label,
        seed=model.seed,
        source=None if source is None else source.row.label,
        hash=model.architecture.hash,
        state_sha256=result.model.state_sha256,
        file_sha256=result.model.file_sha256,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        hours=model.hours,
        outcomes=_outcomes(result),
        alarms=result.alarms,
    )


def _outcomes(result: Result) -> tuple[Outcomes, ...]:
    return tuple(Outcomes(attack=each.attack, correct="".join(map(str, each.correct))) for each in result.measurements)


def spell(seconds: float) -> str:
    """Return a length of time in words.

    >>> spell(90), spell(7200)
    ('2 min', '2.0 h')
    """
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
