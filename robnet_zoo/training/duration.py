"""How long a run will take, from a few of its updates: what one wants to know before a week of it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.core import environment
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.progress import bar
from robnet_zoo.data import Images
from robnet_zoo.training.distributed import joined
from robnet_zoo.training.loop import check_world, fitting
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.updates import Updates, generator
from robnet_zoo.training.validation import STEPS, validate
from robnet_zoo.zoo.architecture import Architecture

SAMPLE = 4  # a part of a batch: so many held-out images are attacked to time it


class StageEstimate(Document):
    """The epochs at one image size.

    size: pixels a side. images_per_second: of training, all processes together, the attack included. hours: of these
    epochs, with the measurements of held-out images after each and the guard's.
    """

    size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    images_per_second: Annotated[float, Field(gt=0)]
    hours: Annotated[float, Field(ge=0)]


class Estimate(Document):
    """What a run would take. images: how many it trains on. updates: how many were timed at each size."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    architecture: str
    spec_hash: str
    recipe: Recipe
    data: str
    images: int
    updates: int
    device: str
    software: dict[str, str]
    stages: Annotated[Tuple[StageEstimate], Field(min_length=1)]

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return sum(stage.hours for stage in self.stages)


def estimate(
    spec: Architecture, images: Images, recipe: Recipe, *, updates: int = 3, progress: bool = True
) -> Estimate:
    """Time a few updates of a run at each of its image sizes, after one that warms up; nothing is kept or written.

    The arguments are those of `train`, and so are its errors and, under torchrun, the processes. updates: at each size.
    That a guard may let PGD take over is not foreseen. Raises ValueError for less than one update.
    """
    if updates < 1:
        raise ValueError(f"updates: expected at least 1, got {updates}")
    training, validation = fitting(spec, images, recipe)
    with joined() as world:
        check_world(recipe, world)
        work = Updates(initial_state(spec, recipe, world), training, recipe, world)
        sizes = [recipe.size_at(epoch, work.native) for epoch in range(1, recipe.epochs + 1)]
        stages: list[StageEstimate] = []
        with bar(total=len(set(sizes)), unit="image sizes", shown=progress and world.first) as shown:
            for size, epochs in Counter(sizes).items():
                work.state.epoch, work.state.step = 1 + sizes.index(size), 0
                batch = _seconds_a_batch(work, updates)
                epoch = work.steps * batch + _seconds_of_checks(work, validation)
                stages.append(
                    StageEstimate(
                        size=size,
                        epochs=epochs,
                        images_per_second=round(recipe.batch / batch, 2),
                        hours=round(epochs * epoch / 3600, 4),
                    )
                )
                shown.update()
        return Estimate(
            architecture=spec.name,
            spec_hash=spec.hash,
            recipe=recipe,
            data=images.name,
            images=len(training),
            updates=updates,
            device=world.name,
            software=environment.software(),
            stages=tuple(stages),
        )


def _seconds_a_batch(work: Updates, updates: int) -> float:
    """The median of some updates of an epoch, or of all there are; the first one of several is not counted."""
    seconds, began = [], time.perf_counter()
    for _ in islice(work.epoch(), updates + 1):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return statistics.median(seconds[1:] or seconds)


def _seconds_of_checks(work: Updates, validation: Images) -> float:
    """Of the measurements of held-out images that come with an epoch, the guard's among them."""
    recipe, world = work.recipe, work.world
    sample = validation[: max(world.size, recipe.batch // SAMPLE)]
    if not len(sample):
        return 0.0

    def seconds(steps: int) -> float:
        noise = generator(recipe.seed, 0, world.rank, "estimate", device=world.device)
        began = time.perf_counter()
        validate(work.state.given, sample, recipe, world, size=work.size, steps=steps, generator=noise)
        return time.perf_counter() - began

    seconds(1)  # the first one makes the form that is attacked
    few, more = seconds(1), seconds(3)
    step = max(more - few, 0.0) / 2  # the rest of a measurement is alike for any number of steps
    once, guard = few - step, recipe.guard
    checks = [(len(validation), STEPS, 1.0)]
    if guard is not None:
        checks.append((guard.images, guard.steps, work.steps / guard.updates))
    return sum(count / len(sample) * times * (once + steps * step) for count, steps, times in checks)


def table(found: Estimate) -> str:
    """The estimate in Markdown, a line a size."""
    lines = [
        f"{found.architecture} by `{found.recipe.name}`, {found.images:,} images of {found.data}, {found.device}, "
        f"median of {found.updates} updates",
        "",
        "| pixels a side | epochs | images/s | hours |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {stage.size} | {stage.epochs} | {stage.images_per_second:.1f} | {stage.hours:.1f} |"
        for stage in found.stages
    ]
    return "\n".join([*lines, f"| together | {found.recipe.epochs} | | {found.hours:.1f} |"])
