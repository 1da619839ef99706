"""Scales: the same plan at a fraction of its size. Every table made at a scale states it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, called, exactly
from robnet_zoo.core.units import fraction
from robnet_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from robnet_zoo.zoo.architecture import Architecture

FULL = "full"
_Factor = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[
    str,
    Field(pattern=r"^[1-9]\d*(/[1-9]\d*)?\z", description="a fraction, such as 1/2"),
    called("a fraction, such as 1/2"),
]


class Scale(Document):
    """Fractions of what a plan asks for."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z"), called("letters, digits, _ and -")] = FULL
    description: str = ""
    width: Annotated[_Factor, Field(description="of the channels")] = 1.0
    depth: Annotated[_Factor, Field(description="of the cells, or of the blocks a stage")] = 1.0
    size: Annotated[_Factor, Field(description="of the pixels a side")] = 1.0
    epochs: Annotated[_Factor, Field(description="of the recipe's")] = 1.0
    images: Annotated[_Factor, Field(description="of the training images, the first of them")] = 1.0
    test_images: Annotated[_Factor, Field(description="of the test images, the first of them")] = 1.0
    eps: Annotated[Ratio, Field(description="of eps and steps, in training and in attacks")] = "1"

    @property
    def whole(self) -> bool:
        """Return whether the scale leaves the plan as it is."""
        return not self.fractions

    @property
    def fractions(self) -> dict[str, str]:
        """Return the fractions below 1, by name, as texts."""
        shares = {key: getattr(self, key) for key in ("width", "depth", "size", "epochs", "images", "test_images")}
        smaller = {key: f"{value:.3g}" for key, value in shares.items() if value != 1}
        return smaller if fraction(self.eps) == 1 else smaller | {"eps": self.eps}

    @property
    def fingerprint(self) -> str:
        """Return eight hex digits that tell its fractions from others."""
        return hashlib.sha256(self.model_dump_json(exclude={"name", "description"}).encode()).hexdigest()[:8]

    def __str__(self) -> str:
        if self.whole:
            return "At full scale."
        fractions = ", ".join(f"{key} {fraction}" for key, fraction in self.fractions.items())
        return f"At a fraction of the paper's scale: {fractions}."

    def architecture(self, published: Architecture) -> Architecture:
        """Return an architecture at this width, depth and size of images. Raises DocumentError."""
        return published.scaled(width=self.width, depth=self.depth, size=self.size)

    def recipe(self, recipe: Recipe, *, seed: int) -> Recipe:
        """Return a recipe with this share of its epochs and eps, and with a seed."""
        shorter = recipe.lasting(max(1, round(recipe.epochs * self.epochs)))
        changes = {
            "seed": seed,
            "attack": self._smaller(recipe.attack.model_dump()),
            "stages": [
                {"size": max(1, round(stage.size * self.size)), "epochs": stage.epochs} for stage in shorter.stages
            ],
        }
        return Recipe.parse(shorter.model_dump() | changes, source=f"{recipe.name} at the scale {self.name}")

    def protocol(self, protocol: Protocol, *, n: int) -> Protocol:
        """Return a protocol for n images, with this share of eps and steps."""
        changed = self._smaller(protocol.model_dump())
        changed["attacks"] = [self._smaller(attack) for attack in changed["attacks"]]
        return Protocol.parse(changed | {"n": n}, source=f"{protocol.name} at the scale {self.name}")

    def _smaller(self, parameters: dict[str, Any]) -> dict[str, Any]:
        lengths = {key: parameters[key] for key in ("eps", "step") if isinstance(parameters.get(key), str)}
        return parameters | {key: str(fraction(value) * fraction(self.eps)) for key, value in lengths.items()}


SCALES = Bundled(Scale, Path(__file__).parent / "scales", "scale")
scale_names, load_scale = SCALES.names, SCALES.load
