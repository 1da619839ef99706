"""`robnet-zoo train` and `estimate`: train an architecture, or say how long that would take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from robnet_zoo.cli.overrides import merged, partial
from robnet_zoo.cli.parameters import Json, OptionalOutput, Output, Quiet, fail, is_first
from robnet_zoo.cli.starting import starting
from robnet_zoo.core.documents import parse_json, read_bytes
from robnet_zoo.data.names import check_name
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.training.checkpoints import Keeping
from robnet_zoo.training.claim import check_folder
from robnet_zoo.training.recipe import DEFAULT, Recipe, load_recipe

if TYPE_CHECKING:
    from robnet_zoo.core.waiting import SignOfLife
    from robnet_zoo.data import Images
    from robnet_zoo.zoo.architecture import Architecture

RecipeOverrides = partial(Recipe)


def train(
    architecture: str,
    *,
    data: str,
    output: Output,
    recipe: str = DEFAULT,
    minutes: float | None = None,
    weights: str | None = None,
    strict: bool = True,
    checkpoint_seconds: float = Keeping.seconds,
    checkpoint_updates: int | None = Keeping.updates,
    checkpoints: int = Keeping.count,
    resume: Annotated[bool, Parameter(negative=())] = False,
    quiet: Quiet = False,
    overrides: Annotated[RecipeOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Train an architecture adversarially. After an interruption, the same command resumes the run.

    The architecture takes the data's number of classes and image size instead of those it was published with.

    Args:
        architecture: A spec, by bundled name or path, or a model of timm, such as resnet18_cifar.
        data: Training images: an .npz, a folder of class folders, pictures-64:FOLDER, cifar10-train:FOLDER, or
            `digits`.
        output: A folder for checkpoints, history and weights.
        recipe: A recipe, by bundled name or path. Its fields are flags, which override it.
        minutes: Train as many epochs as fit into so many minutes here, by an estimate, in place of the recipe's.
        weights: Begin with these weights instead of random ones: a safetensors file of this architecture, or the name
            of bundled weights, such as robnet_micro.cifar10.
        strict: Refuse weights of another architecture. With --no-strict the run takes the tensors that match by name
            and shape, and begins with random ones elsewhere.
        checkpoint_seconds: Write a checkpoint when the last one is this old, besides one after every epoch.
        checkpoint_updates: Also write one every this many updates.
        checkpoints: The number of checkpoints to keep.
        resume: Fail unless the folder holds a run to resume, instead of beginning a new one there.
    """
    chosen_recipe = merged(load_recipe(recipe), overrides)
    if weights is None and not strict:
        fail("--no-strict: expected it with --weights")
    if minutes is not None and overrides is not None and overrides.epochs is not None:
        fail("--minutes: expected it without --epochs, as it sets them")
    begun = output / "recipe.json"
    if minutes is not None and begun.is_file():
        chosen_recipe, minutes = chosen_recipe.lasting(load_recipe(str(begun)).epochs), None
    check_folder(output, chosen_recipe)
    _check_names(architecture, data)
    keeping = Keeping(seconds=checkpoint_seconds, updates=checkpoint_updates, count=checkpoints)
    with starting(shown=not quiet) as sign:
        from robnet_zoo import training

        chosen, images = _fitted(architecture, data, sign)
    if minutes is not None:
        chosen_recipe = training.within_minutes(chosen, images, chosen_recipe, minutes, progress=not quiet)
    training.train(
        chosen,
        images,
        chosen_recipe,
        output,
        weights=weights,
        strict=strict,
        keeping=keeping,
        resume=resume,
        progress=not quiet,
    )
    if is_first() and not quiet:
        for line in _outcome(output):
            print(line)
        print(output / "model.safetensors")


def estimate(
    architecture: str,
    *,
    data: str,
    recipe: str = DEFAULT,
    updates: int = 3,
    output: OptionalOutput = None,
    quiet: Quiet = False,
    as_json: Json = False,
    overrides: Annotated[RecipeOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Estimate how long `train` would take on this machine, from a few updates at each image size.

    Nothing is kept. Under torchrun the estimate is for all its processes together.

    Args:
        architecture: As for `train`.
        data: As for `train`.
        recipe: A recipe, by bundled name or path. Its fields are flags, which override it.
        updates: The number of updates to time at each image size.
        output: Write the estimate into this file, as a document.
    """
    if updates < 1:
        fail(f"--updates: expected at least 1, got {updates}")
    chosen_recipe = merged(load_recipe(recipe), overrides)
    _check_names(architecture, data)
    with starting(shown=not (quiet or as_json)) as sign:
        from robnet_zoo import training
        from robnet_zoo.training.duration import table

        chosen, images = _fitted(architecture, data, sign)
    result = training.estimate(chosen, images, chosen_recipe, updates=updates, progress=not quiet)
    if not is_first():
        return
    if output is not None:
        result.save(output)
    if as_json or not quiet:
        print(result.dumps() if as_json else f"{table(result)}\n", end="")


def _outcome(folder: Path) -> Iterator[str]:
    """Yield what a run has reached, and its curve, if held-out images were measured."""
    from robnet_zoo.core.progress import sparkline
    from robnet_zoo.training.result import TrainingResult
    from robnet_zoo.training.validation import ATTACK

    result = TrainingResult.load(folder / "training.json")
    chosen, curve = result.chosen, [row.robust for row in result.epochs if row.robust is not None]
    if chosen.clean is not None and chosen.robust is not None:
        yield (
            f"epoch {chosen.epoch} of {result.epochs[-1].epoch}: {chosen.clean:.1%} of {result.held_out:,} held-out "
            f"images right, {chosen.robust:.1%} under {ATTACK}; {ATTACK} by epoch {sparkline(curve)}"
        )


def _check_names(architecture: str, data: str) -> None:
    """Refuse a wrong spec, and a wrong name of images, before torch is loaded."""
    check_name(data, train=True)
    if Path(architecture).suffix.lower() == ".json":
        document = parse_json(read_bytes(architecture), source=architecture)
        if not (isinstance(document, Mapping) and "model" in document):  # which is one of timm's
            load_spec(architecture)


def _fitted(architecture: str, data: str, sign: SignOfLife) -> tuple[Architecture, Images]:
    """Return the training images, and the architecture with their classes and size."""
    from robnet_zoo.data import load as load_images
    from robnet_zoo.zoo.architecture import load_architecture

    published = load_architecture(architecture)
    sign.says(f"reading {data}")
    images = load_images(data, train=True)
    num_classes = images.count_classes(at_least=published.signature[1])
    return published.fitted(num_classes=num_classes, input_size=images.shape), images
