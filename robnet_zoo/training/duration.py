"""How long work takes on this machine, from a few updates and gradients: worth knowing before a week of it."""

from __future__ import annotations

import bisect
import math
import statistics
import time
from collections import Counter
from itertools import islice
from typing import Annotated, Literal

import torch
from pydantic import Field

from robnet_zoo.core import environment
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.precision import Arithmetic, resolve_dtype
from robnet_zoo.core.progress import bar
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.errors import TrainingError
from robnet_zoo.nn.forms.autocast import attack_form
from robnet_zoo.nn.network import Network, modes_kept
from robnet_zoo.training.distributed import joined
from robnet_zoo.training.loop import check_world, fitting
from robnet_zoo.training.recipe import MAX_EPOCHS, Recipe
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.updates import Updates, generator
from robnet_zoo.training.validation import STEPS, validate
from robnet_zoo.zoo.architecture import Architecture

SAMPLE = 4  # the part of a batch that is attacked to time attacks: a quarter
FEW = 4  # images a process in the first batch where batches grow
MORE = 4  # the factor by which they grow
CAUTION = 0.95  # the part of the minutes that a run is given to fill


class StageEstimate(Document):
    """The epochs at one image size.

    size: pixels a side. images_per_second: the speed of training, attacks included, of all processes together. hours:
    the time of these epochs, with the measurements of held-out images after each and those of the guard.
    """

    size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    images_per_second: Annotated[float, Field(gt=0)]
    hours: Annotated[float, Field(ge=0)]


class TrainingEstimate(Document):
    """How long a run would take.

    images: the number of training images. updates: the number of updates that were timed at each size.
    gradient_seconds: the time that an attack on the trained network takes for one gradient of one whole image, in one
    process; documents of earlier versions lack it.
    """

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
    gradient_seconds: Annotated[float | None, Field(ge=0)] = None

    @property
    def hours(self) -> float:
        """Return the hours of the whole run."""
        return sum(stage.hours for stage in self.stages)


def estimate(
    spec: Architecture,
    images: Images,
    recipe: Recipe,
    *,
    updates: int = 3,
    longest: float | None = None,
    progress: bool = True,
) -> TrainingEstimate:
    """Estimate how long a run takes, from a few updates at each of its image sizes. Nothing is kept or written.

    Under torchrun the estimate is for all its processes. It does not foresee that a guard may let PGD take over.

    Args:
        spec, images, recipe: as for `train`.
        updates: how many to time at each size, after one that warms up.
        longest: seconds. Time smaller batches where an update takes longer than this, and multiply.
        progress: show a bar.

    Raises: TrainingError for fewer updates than one, and whatever `train` raises before it begins.
    """
    if updates < 1:
        raise TrainingError(f"updates: expected at least 1, got {updates}")
    training, validation = fitting(spec, images, recipe)
    with joined() as world:
        check_world(recipe, world)
        work = Updates(initial_state(spec, recipe, world), training, recipe, world)
        sizes = [recipe.size_at(epoch, work.native) for epoch in range(1, recipe.epochs + 1)]
        stages: list[StageEstimate] = []
        with bar(total=len(set(sizes)), unit="image sizes", shown=progress and world.first) as shown:
            for size, epochs in Counter(sizes).items():
                work.state.epoch = len(sizes) - sizes[::-1].index(size)  # the last, whose attack is the strongest
                batch, seconds = _timed_batch(work, updates, longest)
                sample = max(world.size, batch // SAMPLE)
                an_image = seconds / batch
                an_epoch = work.steps * recipe.batch * an_image + _seconds_of_checks(work, validation, sample)
                stages.append(
                    StageEstimate(
                        size=size,
                        epochs=epochs,
                        images_per_second=round(1 / an_image, 2),
                        hours=round(epochs * an_epoch / 3600, 4),
                    )
                )
                shown.update()
        return TrainingEstimate(
            architecture=spec.name,
            spec_hash=spec.hash,
            recipe=recipe,
            data=images.name,
            images=len(training),
            updates=updates,
            device=world.name,
            software=environment.software(),
            stages=tuple(stages),
            gradient_seconds=_gradient_seconds(work, sample),
        )


def within_minutes(
    spec: Architecture, images: Images, recipe: Recipe, minutes: float, *, progress: bool = True
) -> Recipe:
    """Return the recipe for a run that takes at most so long on this machine, by an estimate, and keeps its shape.

    The time of the estimate counts, too. Under torchrun all processes get the same recipe.

    Args:
        spec, images: as for `train`.
        recipe: its epochs are changed as `Recipe.lasting` does.
        minutes: of the run, with the measurements after its epochs.
        progress: show a bar.

    Raises: TrainingError if there is no time for an epoch, and whatever `train` raises before it begins.
    """
    if not 0 < minutes < math.inf:
        raise TrainingError(f"minutes: expected more than 0, got {minutes:g}")
    began = time.perf_counter()
    native = images.shape[-1]
    estimated = estimate(spec, images, recipe, progress=progress)
    an_epoch = {  # minutes; hours are rounded, so that a short run's may be none
        stage.size: max(60 * stage.hours / stage.epochs, estimated.images / stage.images_per_second / 60)
        for stage in estimated.stages
    }

    def minutes_of(epochs: int) -> float:
        lasting = recipe.lasting(epochs)
        return sum(an_epoch[lasting.size_at(epoch, native)] for epoch in range(1, epochs + 1))

    left = CAUTION * minutes - (time.perf_counter() - began) / 60
    most = min(MAX_EPOCHS, int(max(left, 0) / min(an_epoch.values())))
    epochs = bisect.bisect_right(range(1, most + 1), left, key=minutes_of)
    with joined() as world:
        epochs = int(world.gathered(torch.tensor(epochs, device=world.device)).min())
    if not epochs:
        least = CAUTION * minutes - left + minutes_of(1)
        expected = f"expected at least {math.ceil(least / CAUTION)} for an epoch of {estimated.images:,} images here"
        way_out = "fewer images or an architecture of fewer channels take less"
        raise TrainingError(f"minutes: {expected}, got {minutes:g}; {way_out}")
    return recipe.lasting(epochs)


def _timed_batch(work: Updates, updates: int, longest: float | None) -> tuple[int, float]:
    """Return the size of the batch that was timed, and the seconds of an update with it.

    It is the recipe's or, where `longest` is given, the first of growing batches that takes this long.
    """
    whole = work.recipe.batch
    batch = whole if longest is None else min(FEW * work.world.size, whole)
    while True:
        recipe = work.recipe.model_copy(update={"batch": batch})
        seconds = _seconds_an_update(Updates(work.state, work.images, recipe, work.world), updates)
        if batch == whole or (longest is not None and seconds >= longest):
            return batch, seconds
        batch = min(MORE * batch, whole)


def _seconds_an_update(work: Updates, updates: int) -> float:
    """Return the median over some updates of an epoch, or all there are, without the first, which warms up."""
    work.state.step = 0
    seconds, began = [], time.perf_counter()
    for _ in islice(work.epoch(), updates + 1):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return statistics.median(seconds[1:] or seconds)


def _seconds_of_checks(work: Updates, validation: Images, count: int) -> float:
    """Return the seconds of an epoch's measurements of held-out images, those of the guard included.

    count: the number of images to time them with.
    """
    recipe, world = work.recipe, work.world
    sample = validation[:count]
    if not len(sample):
        return 0.0

    def seconds(steps: int) -> float:
        noise = generator(recipe.seed, 0, world.rank, "estimate", device=world.device)
        began = time.perf_counter()
        validate(work.state.given, sample, recipe, world, size=work.size, steps=steps, generator=noise)
        return time.perf_counter() - began

    seconds(1)  # the first call makes the form that is attacked
    few, more = seconds(1), seconds(3)
    step = max(more - few, 0.0) / 2  # the rest of a measurement does not depend on the number of steps
    once, guard = few - step, recipe.guard
    checks = [(len(validation), STEPS, 1.0)]
    if guard is not None:
        checks.append((guard.images, guard.steps, work.steps / guard.updates))
    return sum(images / len(sample) * times * (once + steps * step) for images, steps, times in checks)


def _gradient_seconds(work: Updates, count: int) -> float:
    """Return the seconds of one gradient of one image, by the form that attacks on a trained network use.

    count: the number of images to time it with.
    """
    network, device = work.state.given, work.world.device
    # As targets have it: a model that was not compiled from a spec is attacked in float32.
    wanted: Arithmetic = "bfloat16" if isinstance(network, Network) else "float32"
    pixels = work.images[:count].batch(slice(None))[0].to(device)
    with modes_kept(network):
        form = attack_form(network.eval(), dtype=resolve_dtype(wanted, device))
        seconds = []
        for _ in range(3):  # the first one warms up
            began = time.perf_counter()
            pixels.requires_grad_()
            (gradient,) = torch.autograd.grad(form(pixels).square().sum(), pixels)
            gradient.sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - began)
    return min(seconds) / len(pixels)


def table(result: TrainingEstimate) -> str:
    """Return the estimate in Markdown, with a line for each size."""
    lines = [
        f"{result.architecture} by `{result.recipe.name}`, {result.images:,} images of {result.data}, "
        f"{result.device}, median of {counted(result.updates, 'update')}",
        "",
        "| pixels a side | epochs | images/s | hours |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {stage.size} | {stage.epochs} | {stage.images_per_second:.1f} | {stage.hours:.1f} |"
        for stage in result.stages
    ]
    return "\n".join([*lines, f"| together | {result.recipe.epochs} | | {result.hours:.1f} |"])
