"""What a training run does, as a document."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.documents import Document, Pixels, in_image_units

Positive = Annotated[float, Field(gt=0)]


class Attack(Document):
    """The l-infinity PGD that finds the images to train on (Madry et al., 2018)."""

    eps: Pixels = "8/255"
    step: Pixels = "2/255"
    steps: Annotated[int, Field(ge=0, description="0 trains on clean images")] = 7
    dtype: Annotated[
        Literal["bfloat16", "float32"], Field(description="of the attack's arithmetic; training is in float32")
    ] = "bfloat16"

    @property
    def eps_value(self) -> float:
        """eps in image units."""
        return in_image_units(self.eps)

    @property
    def step_value(self) -> float:
        """The step size in image units."""
        return in_image_units(self.step)


class Recipe(Document):
    """SGD with momentum on adversarial images; the learning rate warms up linearly, then falls along a cosine to 0."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z")]
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=2, description="images a step")] = 128
    lr: Positive = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of all steps")] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0, description="not on biases and batch norms")] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    crop: Annotated[int, Field(ge=0, description="zero padding in pixels before a random crop")] = 4
    flip: bool = True
    attack: Attack = Attack()
    validation: Annotated[int, Field(ge=0, description="validation images measured after each epoch")] = 500
    seed: int = 0


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            # robnet_micro.cifar10: a network this small underfits, so epochs buy more than attack steps.
            Recipe(
                name="micro_cifar10",
                epochs=9,
                batch=256,
                lr=0.2,
                weight_decay=2e-4,
                attack=Attack(steps=3, step="4/255"),
            ),
            # robnet_micro.digits: 1,168 scans; a digit must not be flipped, and eps is larger than on photographs.
            Recipe(
                name="micro_digits",
                epochs=24,
                batch=64,
                lr=0.1,
                crop=2,
                flip=False,
                attack=Attack(eps="16/255", step="4/255", steps=7),
            ),
            Recipe(name="pgd7", epochs=200, lr=0.1),
        )
    }
)
