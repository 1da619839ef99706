"""What a training run has come to: a document, current after every epoch, and the model card that is made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.architecture import Architecture, costs, document_name
from robnet_zoo.documents import Document, Tuple, exactly
from robnet_zoo.training.recipe import Recipe, load_recipe, recipe_names

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Epoch(Document):
    """One epoch, when it was over. size: pixels a side. clean, robust: accuracies of the network that the run would
    give then, on held-out images. hours: of work so far."""

    epoch: Count
    size: Count
    loss: float
    clean: Share | None = None
    robust: Annotated[Share | None, Field(description="under PGD-10")] = None
    hours: Annotated[float, Field(ge=0)]


class Origin(Document):
    """Weights that a run began with."""

    name: str
    sha256: str


class Trained(Document):
    """A training run after some of its epochs.

    images: how many it trains on. held_out: how many are measured after an epoch. devices: all that a part of it was
    computed on, with the number of processes. software: of the newest part.
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    architecture: str
    spec_hash: str
    recipe: Recipe
    data: str
    data_sha256: str
    images: Count
    held_out: Count
    begun_with: Origin | None = None
    epochs: Annotated[Tuple[Epoch], Field(min_length=1)]
    devices: Tuple[str]
    software: dict[str, str]

    @property
    def over(self) -> bool:
        """Whether no epoch is left."""
        return len(self.epochs) == self.recipe.epochs

    @property
    def chosen(self) -> Epoch:
        """The epoch whose weights the run gives."""
        last = self.epochs[-1]
        if self.recipe.select == "last":
            return last
        return max((row for row in self.epochs if row.size == last.size), key=lambda row: row.robust or 0.0)


def facts(trained: Trained, architecture: Architecture) -> list[str]:
    """What was trained, on what, how, for how long, and what held-out images say: lines of Markdown."""
    recipe, cost, last, chosen = trained.recipe, costs(architecture), trained.epochs[-1], trained.chosen
    origin = trained.begun_with
    versions = ", ".join(f"{name} {trained.software[name]}" for name in ("torch", "robnet_zoo"))
    epochs = f"{recipe.epochs} epochs" if trained.over else f"{last.epoch} of {recipe.epochs} epochs"
    lines = [
        f"- architecture: `{architecture.name}`, hash `{architecture.hash[:12]}`, {cost.parameters:,} parameters, "
        f"{cost.multiply_adds / 1e6:,.1f} M multiply-adds an image",
        *([] if origin is None else [f"- begun with {origin.name} (sha256 `{origin.sha256[:12]}`)"]),
        f"- trained on: the first {trained.images:,} images of {trained.data} (sha256 `{trained.data_sha256[:12]}`); "
        "the tenth after them was held out",
        f"- attack while training: `{recipe.attack.kind}`, eps {recipe.attack.eps}, {recipe.attack.steps} steps of "
        f"{recipe.attack.step}",
        f"- {epochs}{_stages(trained)}, batch {recipe.batch}, seed {recipe.seed}; {last.hours:.2f} hours on "
        f"{'; '.join(trained.devices)}; {versions}",
    ]
    if chosen.clean is not None and chosen.robust is not None:
        pixels = f"{chosen.size} pixels a side, " if len(_sizes(trained)) > 1 else ""
        lines.append(
            f"- {trained.held_out} held-out images after epoch {chosen.epoch}, whose weights these are: {pixels}"
            f"{chosen.clean:.1%} clean, {chosen.robust:.1%} under PGD-10 at {recipe.attack.eps}"
        )
    return lines


def _sizes(trained: Trained) -> dict[int, int]:
    """Pixels a side: how many epochs saw images of that size."""
    sizes: dict[int, int] = {}
    for row in trained.epochs:
        sizes[row.size] = sizes.get(row.size, 0) + 1
    return sizes


def _stages(trained: Trained) -> str:
    sizes = _sizes(trained)
    if len(sizes) == 1:
        return ""
    return " (" + ", ".join(f"{count} of {size} pixels a side" for size, count in sizes.items()) + ")"


def titled(trained: Trained) -> str:
    """`robnet_free, trained by the recipe `fast``, and whether that is the bundled one."""
    bundled = "" if _is_bundled(trained.recipe) else " as `recipe.json` has it"
    return f"{trained.architecture}, trained by the recipe `{trained.recipe.name}`{bundled}"


def _is_bundled(recipe: Recipe) -> bool:
    return recipe.name in recipe_names() and load_recipe(recipe.name) == recipe


def model_card(trained: Trained, architecture: Architecture) -> str:
    """The card of a run that is over, in Markdown."""
    bundled = _is_bundled(trained.recipe)
    lines = [
        f"# {titled(trained)}",
        "",
        trained.recipe.description if bundled else "The recipe is none of those that the package brings.",
        "",
        *facts(trained, architecture),
        "",
        "Held-out images are for choosing, not for reporting: measure test images with",
        "`robnet-zoo benchmark THIS_FOLDER --data TEST_IMAGES --protocol table1`.",
        "",
        "![curves](curves.png)",
        "",
        f"The recipe in full is `recipe.json`, the architecture `{document_name(architecture)}`, every epoch a line of",
        "`history.csv`; `training.json` holds what this page says.",
    ]
    return "\n".join(lines) + "\n"
