"""What a training run does, as a document."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.documents import Document, Pixels, Tuple, in_image_units, problems_error

Positive = Annotated[float, Field(gt=0)]


class Attack(Document):
    """What finds the images to train on, in the l-infinity ball.

    `pgd` (Madry et al., 2018) starts at random in the ball and stays in it. `n_fgsm` (de Jorge et al., 2022) is one
    step of `step` from uniform noise of twice eps, not projected: so single-step training does not overfit to it.
    """

    kind: Literal["pgd", "n_fgsm"] = "pgd"
    eps: Pixels = "8/255"
    step: Pixels = "2/255"
    steps: Annotated[int, Field(ge=0, description="0 trains on clean images")] = 7
    dtype: Annotated[
        Literal["bfloat16", "float32"], Field(description="of the attack's arithmetic; training is in float32")
    ] = "bfloat16"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "n_fgsm" and self.steps != 1:
            raise problems_error([(("steps",), f"expected 1 for n_fgsm, got {self.steps}")])
        return self

    @property
    def eps_value(self) -> float:
        """eps in image units."""
        return in_image_units(self.eps)

    @property
    def step_value(self) -> float:
        """The step size in image units."""
        return in_image_units(self.step)


class Stage(Document):
    """Epochs at the start of a run that see smaller images."""

    size: Annotated[int, Field(ge=1, description="pixels a side")]
    epochs: Annotated[int, Field(ge=1)]


class Recipe(Document):
    """SGD with momentum on adversarial images; the learning rate warms up linearly, then falls along a cosine to 0.

    Its clock is the share of the pixels that the run has seen, so that smaller images move it less.
    """

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
    eps_warmup: Annotated[
        float, Field(ge=0, lt=1, description="share of the run over which eps and step grow from 0 to the attack's")
    ] = 0.0
    stages: Annotated[
        Tuple[Stage], Field(description="smaller images first; the epochs that are left see them whole")
    ] = ()
    dtype: Annotated[
        Literal["bfloat16", "float32"], Field(description="of the training step's arithmetic; weights are float32")
    ] = "float32"
    clip: Annotated[float, Field(ge=0, description="largest norm of the gradient; 0 does not clip")] = 0.0
    ema: Annotated[
        float,
        Field(ge=0, lt=1, description="decay a step of the averaged weights, which the run gives; 0: the last"),
    ] = 0.0
    validation: Annotated[int, Field(ge=0, description="validation images measured after each epoch")] = 500
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(stage.epochs for stage in self.stages) > self.epochs:
            raise problems_error([(("stages",), f"expected no more than the run's {self.epochs} epochs")])
        return self

    def size_at(self, epoch: int, native: int) -> int:
        """Pixels a side of the images in an epoch, counted from 1."""
        for stage in self.stages:
            if epoch <= stage.epochs:
                return stage.size
            epoch -= stage.epochs
        return native

    def done(self, epochs: float, native: int) -> float:
        """The share of the run's pixels, and so of its time, that the first `epochs` epochs see."""
        pixels = [self.size_at(epoch, native) ** 2 for epoch in range(1, self.epochs + 1)]
        whole = int(epochs)
        over = sum(pixels[:whole]) + (epochs - whole) * (pixels[whole] if whole < self.epochs else 0)
        return over / sum(pixels)

    def strength(self, done: float) -> float:
        """What eps and step are multiplied with when the share `done` of the run is over."""
        return min(1.0, done / self.eps_warmup) if self.eps_warmup else 1.0


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
            # robnet_free.fast_cifar10 on two CPU cores: most epochs at a quarter of the pixels.
            Recipe(
                name="fast_cifar10",
                epochs=8,
                stages=(Stage(size=16, epochs=5), Stage(size=24, epochs=1)),
                lr=0.1,
                warmup=0.05,
                attack=Attack(kind="n_fgsm", step="8/255", steps=1),
                eps_warmup=0.1,
                dtype="bfloat16",
                ema=0.995,
                label_smoothing=0.05,
            ),
        )
    }
)
