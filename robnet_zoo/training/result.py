"""The result of a training run: a document, written after every epoch, and the model card made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Literal

from pydantic import Field

from robnet_zoo.core.documents import Document, Tuple, renamed, version
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.core.units import Share
from robnet_zoo.core.wording import counted
from robnet_zoo.training.recipe import RECIPES, Recipe
from robnet_zoo.training.validation import ATTACK
from robnet_zoo.zoo.architecture import Architecture, costs

Number = Annotated[int, Field(ge=0)]


class Epoch(Document):
    """An epoch that is over.

    size: pixels a side. clean, robust: accuracies on held-out images, of the network that the run would give then.
    hours: of work so far.
    """

    epoch: Number
    size: Number
    loss: float
    clean: Share | None = None
    robust: Annotated[Share | None, Field(description=f"under {ATTACK}")] = None
    hours: Annotated[float, Field(ge=0)]


class InitialWeights(Document):
    """The weights that a run began with. strict: whether all of them; otherwise the tensors that it has too."""

    name: str
    file_sha256: str
    strict: bool = True

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "sha256", "file_sha256")


class TrainingResult(Document):
    """A training run after some of its epochs.

    images: how many it trains on. held_out: how many are measured after an epoch. file_sha256, state_sha256: of the
    file of weights that it gives, and of the state dict in it, which older documents lack. devices: all on which one
    of its epochs ended, with the number of processes. software: of the last epoch.
    """

    schema_version: Annotated[Literal[2], version(2, oldest=1)] = 2
    architecture: str
    spec_hash: str
    recipe: Recipe
    data: str
    data_sha256: str
    images: Number
    held_out: Number
    begun_with: InitialWeights | None = None
    file_sha256: str
    state_sha256: str | None = None
    epochs: Annotated[Tuple[Epoch], Field(min_length=1)]
    devices: Tuple[str]
    software: dict[str, str]

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "weights_sha256", "file_sha256")

    def is_of(self, run: TrainingResult) -> bool:
        """Return whether another result is of the same run, at any epoch."""
        parts = ("spec_hash", "recipe", "data_sha256", "begun_with")
        return all(getattr(self, part) == getattr(run, part) for part in parts)

    @property
    def is_bundled(self) -> bool:
        """Return whether its recipe is a bundled one, in every field."""
        return self.recipe.name in RECIPES.names() and RECIPES.own(self.recipe.name) == self.recipe

    @property
    def over(self) -> bool:
        """Return whether the run is complete."""
        return len(self.epochs) == self.recipe.epochs

    @property
    def chosen(self) -> Epoch:
        """Return the epoch whose weights the run gives."""
        return selected(self.epochs, self.recipe)


def selected(epochs: Sequence[Epoch], recipe: Recipe) -> Epoch:
    """Return the epoch whose weights a run gives: the last, or the best since the images had another size."""
    last = epochs[-1]
    if recipe.select == "last":
        return last
    comparable = [*takewhile(lambda row: row.size == last.size, reversed(epochs))][::-1]
    return max(comparable, key=lambda row: row.robust or 0.0)


def facts(run: TrainingResult, architecture: Architecture) -> list[str]:
    """Return what was trained, on what, how, how long, and the accuracy on held-out images: lines of Markdown."""
    recipe, cost, last, chosen = run.recipe, costs(architecture), run.epochs[-1], run.chosen
    origin = run.begun_with
    part = "" if origin is None or origin.strict else "what it shares with "
    versions = ", ".join(f"{name} {run.software[name]}" for name in ("torch", "robnet_zoo"))
    epochs = counted(recipe.epochs, "epoch") if run.over else f"{last.epoch} of {counted(recipe.epochs, 'epoch')}"
    lines = [
        f"- architecture: `{architecture.name}`, hash `{architecture.hash[:12]}`, {cost.parameters:,} parameters, "
        f"{cost.multiply_adds / 1e6:,.1f} M multiply-adds an image",
        *([] if origin is None else [f"- begun with {part}{origin.name} (sha256 `{origin.file_sha256[:12]}`)"]),
        f"- trained on: the first {run.images:,} images of {run.data} (sha256 `{run.data_sha256[:12]}`); "
        "the tenth after them was held out",
        f"- attack while training: `{recipe.attack.kind}`, eps {recipe.attack.eps}, "
        f"{counted(recipe.attack.steps, 'step')} of {recipe.attack.step}",
        f"- {', '.join(_optimization(recipe))}",
        f"- {epochs}{_stages(run)}, batch {recipe.batch}, seed {recipe.seed}; {last.hours:.2f} hours on "
        f"{'; '.join(run.devices)}; {versions}",
    ]
    if chosen.clean is not None and chosen.robust is not None:
        pixels = f"{chosen.size} pixels a side, " if recipe.stages else ""
        clean, robust = (with_interval(share, run.held_out) for share in (chosen.clean, chosen.robust))
        lines.append(
            f"- {run.held_out} held-out images after epoch {chosen.epoch}, whose weights it gives: {pixels}"
            f"{clean} clean, {robust} under {ATTACK} at {recipe.attack.eps}"
        )
    return lines


def _optimization(recipe: Recipe) -> Iterator[str]:
    """Yield how the weights were trained, part by part."""
    schedule, objective, guard = recipe.schedule, recipe.objective, recipe.guard
    milestones = " and ".join(f"{milestone:g}" for milestone in schedule.falls)
    falls = f"x{schedule.factor:g} after epochs {milestones}" if milestones else schedule.kind
    yield f"optimizer `{recipe.optimizer}`"
    yield f"learning rate {recipe.lr:g} ({falls}{f', warm-up {schedule.warmup:.0%}' if schedule.warmup else ''})"
    yield f"momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}"
    if objective.kind != "adversarial":
        yield f"{objective.kind} with beta {objective.beta:g}"
    if objective.label_smoothing:
        yield f"label smoothing {objective.label_smoothing:g}"
    if objective.tie:
        yield f"answers tied to those at the attack's start with {objective.tie:g}"
    if objective.distillation is not None:
        yield "targets softened by the averaged weights"
    if recipe.standard:
        yield f"clean images for the first {recipe.standard:.0%}"
    if recipe.clip:
        yield f"gradients clipped at {recipe.clip:g}"
    if recipe.ema:
        yield f"weights averaged with {recipe.ema:g}"
    if guard is not None:
        images, updates = counted(guard.images, "held-out image"), counted(guard.updates, "update")
        yield f"PGD-{guard.steps} on {images} every {updates} as a guard"
    yield f"{recipe.dtype} arithmetic"


def _stages(run: TrainingResult) -> str:
    """Return how many epochs saw images of which size, if the recipe has several."""
    sizes = Counter(row.size for row in run.epochs)
    counts = ", ".join(f"{count} of {size} pixels a side" for size, count in sizes.items())
    return f" ({counts})" if run.recipe.stages else ""


def _recipe_in_words(run: TrainingResult) -> Iterator[str]:
    """Yield what the package says of a recipe of its own; it may name the model that the recipe was made for."""
    if not run.is_bundled:
        yield "The recipe is none of those that the package brings."
    elif run.recipe.description:
        yield f'The recipe, in the words of the package: "{run.recipe.description}".'


def model_card(run: TrainingResult, architecture: Architecture, *, classes: Sequence[str] = ()) -> str:
    """Return the model card of a run that is over, in Markdown.

    Args:
        run: the run's document.
        architecture: what was trained.
        classes: their names, if they are known.
    """
    changed = "" if run.is_bundled else " as `recipe.json` has it"
    lines = [
        f"# {run.architecture}, trained by the recipe `{run.recipe.name}`{changed}",
        "",
        *_recipe_in_words(run),
        "",
        *facts(run, architecture),
        *([f"- classes, in the order of the logits: {', '.join(classes)}"] if classes else []),
        "",
        'Load it with `timm.create_model("local-dir:THIS_FOLDER", pretrained=True)` after `import robnet_zoo`.',
        "",
        "Held-out images are for choosing, not for reporting: measure test images with",
        "`robnet-zoo benchmark THIS_FOLDER --data TEST_IMAGES --protocol table1`.",
        "",
        "![curves](curves.png)",
        "",
        f"The recipe in full is `recipe.json`, the architecture `{architecture.file_name}`, every epoch a line of",
        "`history.csv`; `training.json` holds what this page says.",
    ]
    return "\n".join(lines) + "\n"
