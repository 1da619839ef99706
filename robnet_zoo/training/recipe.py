"""What a training run does, as a document; the bundled ones are `recipes/*.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, Tuple, called, exactly, nearest, problems_error
from robnet_zoo.core.precision import Arithmetic
from robnet_zoo.core.units import LinfPixels, Share, in_image_units
from robnet_zoo.core.wording import counted

DEFAULT = "paper"
MAX_EPOCHS = 1_000_000  # the schedule lists them
USUAL_OPTIMIZERS = ("sgd", "momentum")  # for others timm is asked, which takes seconds to import
Positive = Annotated[float, Field(gt=0)]
ProperShare = Annotated[float, Field(ge=0, lt=1)]


class TrainingAttack(Document):
    """The attack that makes the images to train on, in the l-infinity ball.

    `pgd` (Madry et al., 2018) starts at random in the ball and stays in it. `n_fgsm` (de Jorge et al., 2022) is one
    step of `step` from uniform noise of twice eps, not projected: so single-step training does not overfit to it.
    `free` (Shafahi et al., 2019) trains on every batch `steps` times and takes the images' gradient from the same
    backward pass: one step of the perturbation, of length `step`, each time; perturbations stay for the next batch.
    `fgsm_pgi` (Jia et al., 2022) is one step in the ball from the perturbation that an image has kept since the epoch
    before (FGSM-EP). momentum: of the gradients that lead to the next start, as in FGSM-MEP.
    loss: what `pgd` climbs; `kl` is the divergence from the answer to the clean image (TRADES). statistics: which
    statistics of batch norms the attack sees: the running ones, as when the network is used, or those of the batch, as
    in the original code. Sub-networks of a supernet need those of the batch: its running ones are a mixture.
    """

    kind: Literal["pgd", "n_fgsm", "free", "fgsm_pgi"] = "pgd"
    eps: LinfPixels = "8/255"
    step: LinfPixels = "2/255"
    steps: Annotated[int, Field(ge=0, description="0 trains on clean images")] = 7
    loss: Literal["cross_entropy", "kl"] = "cross_entropy"
    dtype: Annotated[Arithmetic, Field(description="of the attack's arithmetic")] = "bfloat16"
    statistics: Annotated[Literal["running", "batch"], Field(description="of batch norms, in the attack")] = "running"
    momentum: Annotated[ProperShare, Field(description="of each image's gradients, for fgsm_pgi")] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind in ("n_fgsm", "fgsm_pgi") and self.steps != 1:
            raise problems_error([(("steps",), f"expected 1 for {self.kind}, got {self.steps}")])
        if self.remembers and not self.eps_value:
            raise problems_error([(("eps",), f"expected more than 0 for {self.kind}, got {self.eps}")])
        if self.momentum and not self.remembers:
            raise problems_error([(("momentum",), f"expected 0 for {self.kind}, got {self.momentum:g}")])
        if self.in_backward_pass and self.steps < 1:
            raise problems_error([(("steps",), f"expected at least 1 for free, got {self.steps}")])
        if self.kind != "pgd" and self.loss != "cross_entropy":
            raise problems_error([(("loss",), f"expected cross_entropy for {self.kind}, got {self.loss}")])
        if self.in_backward_pass and self.statistics != "running":
            raise problems_error([(("statistics",), f"expected running for free, got {self.statistics}")])
        return self

    @property
    def in_backward_pass(self) -> bool:
        """Return whether one backward pass serves the attack and the weights, as in free training."""
        return self.kind == "free"

    @property
    def remembers(self) -> bool:
        """Return whether each image keeps its perturbation until the next epoch."""
        return self.kind == "fgsm_pgi"

    @property
    def updates_a_batch(self) -> int:
        """Return how often the weights are updated on each batch."""
        return self.steps if self.in_backward_pass else 1

    @property
    def eps_value(self) -> float:
        """Return eps in image units."""
        return in_image_units(self.eps)

    @property
    def step_value(self) -> float:
        """Return the step size in image units."""
        return in_image_units(self.step)


class Distillation(Document):
    """Targets that are partly the answers of the averaged weights to the clean images (ADR; Wu et al., 2024).

    A target is a share of the teacher's answer, softened by a temperature, and the label for the rest. The share of an
    image is smaller by as much as the teacher prefers its first choice to the label. Share and temperature go to their
    final values along half a cosine, by the clock of the schedule.
    """

    share: Share = 0.7
    final_share: Share = 0.95
    temperature: Positive = 2.0
    final_temperature: Positive = 1.0

    def at(self, done: float) -> tuple[float, float]:
        """Return share and temperature when `done` of the run is over."""
        left = 0.5 * (1 + math.cos(math.pi * done))
        share = self.final_share + (self.share - self.final_share) * left
        return share, self.final_temperature + (self.temperature - self.final_temperature) * left


class Objective(Document):
    """The loss of the weights.

    `adversarial`: the cross-entropy on adversarial images (paper, equation 1). `trades`: the cross-entropy on clean
    images plus `beta` times the divergence KL(clean answer || adversarial answer) (Zhang et al., 2019, equation 5).
    label_smoothing: of the targets of the cross-entropy. Attacks climb the cross-entropy of the labels themselves.
    tie: the weight of the mean squared distance between the logits of an attack's start and of its end, for `fgsm_pgi`
    (Jia et al., 2022); one forward pass of the start then serves the attack and the loss.
    """

    kind: Literal["adversarial", "trades"] = "adversarial"
    beta: Positive = 6.0
    label_smoothing: ProperShare = 0.0
    tie: Annotated[float, Field(ge=0, description="of the answers to an attack's start and its end; a weight")] = 0.0
    distillation: Distillation | None = None


class Schedule(Document):
    """The factor of the learning rate: a linear warm-up, then a fall from 1.

    `cosine` and `linear` fall to `final` at the end of the run; `steps` multiplies by `factor` after each of the
    `milestones`, which count epochs and which the others ignore. Time is the share of the pixels that the run has seen,
    so that epochs of smaller images move it less.
    """

    kind: Literal["cosine", "linear", "steps"] = "cosine"
    warmup: Annotated[ProperShare, Field(description="share of the run")] = 0.0
    start: Annotated[Share, Field(description="the factor at the beginning of the warm-up")] = 0.0
    final: Share = 0.0
    milestones: Tuple[Annotated[float, Field(ge=0)]] = ()
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1

    @property
    def falls(self) -> tuple[float, ...]:
        """Return the epochs after which the factor falls at once: the milestones, of a schedule that has steps."""
        return self.milestones if self.kind == "steps" else ()


class Augmentation(Document):
    """Random changes to training images; picture files get a random resized crop instead of `crop`."""

    crop: Annotated[int, Field(ge=0, description="zero padding in pixels before a random crop")] = 4
    flip: bool = True
    cutout: Annotated[int, Field(ge=0, description="side of the square set to zero (DeVries and Taylor, 2017)")] = 0


class Stage(Document):
    """Epochs that see smaller images, at the start of a run."""

    size: Annotated[int, Field(ge=1, description="pixels a side")]
    epochs: Annotated[int, Field(ge=1)]


class Guard(Document):
    """A check for catastrophic overfitting: single-step training that no longer withstands PGD (Wong et al., 2020).

    Every `updates` updates, PGD attacks the first `images` validation images. If the robust accuracy is below `share`
    of the best one so far, at any image size, the run trains on PGD with `steps` steps until a check is passed
    again (Li et al., 2020).
    """

    updates: Annotated[int, Field(ge=1)] = 100
    images: Annotated[int, Field(ge=1)] = 128
    steps: Annotated[int, Field(ge=1)] = 10
    share: ProperShare = 0.5


class Recipe(Document):
    """A training run, except for its architecture and its data.

    >>> Recipe(name="short", epochs=3, attack=TrainingAttack(steps=2)).lr_at(0, native=32)
    0.1
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z"), called("letters, digits, _ and -")]
    description: str = ""
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    batch: Annotated[int, Field(ge=2, description="images a step, of all processes together")] = 128
    optimizer: Annotated[str, Field(description="timm's name; sgd is with Nesterov's momentum, momentum without")] = (
        "sgd"
    )
    lr: Positive = 0.1
    momentum: ProperShare = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="not on biases and batch norms")] = 5e-4
    clip: Annotated[float, Field(ge=0, description="largest norm of the gradient; 0 does not clip")] = 0.0
    schedule: Schedule = Schedule()
    objective: Objective = Objective()
    attack: TrainingAttack = TrainingAttack()
    standard: Annotated[ProperShare, Field(description="the first share of the run, on clean images")] = 0.0
    eps_warmup: Annotated[ProperShare, Field(description="the share after it, in which eps and step grow from 0")] = 0.0
    augmentation: Augmentation = Augmentation()
    stages: Annotated[
        Tuple[Stage], Field(description="smaller images first; the epochs that are left see them whole")
    ] = ()
    guard: Guard | None = None
    dtype: Annotated[Arithmetic, Field(description="of the training step; weights are float32")] = "float32"
    compile: Annotated[
        bool, Field(description="network and attack go through torch.compile, which takes minutes at each image size")
    ] = False
    sync_bn: Annotated[bool, Field(description="batch norms see the images of all processes; needs GPUs")] = False
    ema: Annotated[
        ProperShare, Field(description="decay a step of the averaged weights, which the run gives; 0: none")
    ] = 0.0
    validation: Annotated[int, Field(ge=0, description="validation images measured after each epoch")] = 500
    select: Annotated[
        Literal["best", "last"], Field(description="which epoch's weights: by robust accuracy on validation images")
    ] = "last"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if (staged := sum(stage.epochs for stage in self.stages)) > self.epochs:
            problems.append(
                (("stages",), f"expected no more than the run's {counted(self.epochs, 'epoch')}, got {staged}")
            )
        if self.optimizer not in USUAL_OPTIMIZERS and self.optimizer not in (known := _optimizers()):
            problems.append((("optimizer",), f"unknown optimizer {self.optimizer!r}{nearest(self.optimizer, known)}"))
        if self.optimizer == "sgd" and not self.momentum:
            problems.append(
                (("momentum",), "expected more than 0 for sgd, which is Nesterov's; the optimizer momentum takes 0")
            )
        late = ", ".join(f"{milestone:g}" for milestone in self.schedule.falls if milestone > self.epochs)
        if late:
            advice = "changing the epochs alone, by --epochs or model_copy, scales a recipe's own milestones"
            text = f"expected epochs of the run's {self.epochs}, got {late}; {advice}"
            problems.append((("schedule", "milestones"), text))
        if self.objective.kind == "trades" and self.attack.kind != "pgd":
            problems.append((("attack", "kind"), f"expected pgd for trades, got {self.attack.kind}"))
        if self.objective.tie and not self.attack.remembers:
            problems.append((("objective", "tie"), f"expected 0 for {self.attack.kind}, got {self.objective.tie:g}"))
        elif self.objective.tie and self.attack.statistics != "batch":
            text = f"expected batch for objective.tie, got {self.attack.statistics}"
            problems.append((("attack", "statistics"), text))
        if self.objective.distillation is not None and not self.ema:
            problems.append((("ema",), "expected more than 0 for distillation, whose teacher is the average, got 0"))
        if self.standard + self.eps_warmup > 1:
            text = f"expected at most {1 - self.standard:g}, what the standard training leaves, got {self.eps_warmup:g}"
            problems.append((("eps_warmup",), text))
        if self.attack.loss == "kl" and self.objective.kind != "trades":
            problems.append((("attack", "loss"), "expected cross_entropy except for trades, got kl"))
        if self.guard is not None and self.validation < self.guard.images:
            problems.append((("guard", "images"), f"expected at most the {self.validation} validation images"))
        if self.select == "best" and not self.validation:
            problems.append((("select",), "expected last, as no validation images are measured, got best"))
        if problems:
            raise problems_error(problems)
        return self

    @property
    def updates_a_batch(self) -> int:
        """Return how often the weights are updated on each batch."""
        return self.attack.updates_a_batch

    def lasting(self, epochs: int) -> Self:
        """Return the recipe for a run of another length, at least an epoch, in which all else has the same shape.

        Milestones and stages keep their shares of the run; where stages leave epochs for whole images, one is left.
        """
        share = epochs / self.epochs
        milestones = [milestone * epochs / self.epochs for milestone in self.schedule.milestones]
        staged = sum(stage.epochs for stage in self.stages)
        most = epochs if staged == self.epochs else epochs - 1
        stages, over, done = [], 0, 0
        for stage in self.stages:
            over += stage.epochs
            end = min(round(over * share), most)
            if end > done:
                stages.append({"size": stage.size, "epochs": end - done})
            done = max(done, end)
        schedule = self.schedule.model_dump() | {"milestones": milestones}
        return self.parse(self.model_dump() | {"epochs": epochs, "schedule": schedule, "stages": stages})

    def _ready_for(self, changes: Mapping[str, Any]) -> Self:
        epochs = changes.get("epochs")
        return self.lasting(epochs) if type(epochs) is int and 1 <= epochs <= MAX_EPOCHS else self

    def size_at(self, epoch: int, native: int) -> int:
        """Return the pixels a side of the images in an epoch, which counts from 1. native: those of the data."""
        for stage in self.stages:
            if epoch <= stage.epochs:
                return stage.size
            epoch -= stage.epochs
        return native

    def done(self, epochs: float, native: int) -> float:
        """Return the share of the run's pixels, and so of its time, that its first `epochs` epochs see."""
        pixels = [self.size_at(epoch, native) ** 2 for epoch in range(1, self.epochs + 1)]
        whole = int(epochs)
        over = sum(pixels[:whole]) + (epochs - whole) * (pixels[whole] if whole < self.epochs else 0)
        return over / sum(pixels)

    def lr_at(self, epochs: float, native: int) -> float:
        """Return the learning rate after `epochs` epochs."""
        schedule, done = self.schedule, self.done(epochs, native)
        if done < schedule.warmup:
            return self.lr * (schedule.start + (1 - schedule.start) * done / schedule.warmup)
        left = 1 - (done - schedule.warmup) / (1 - schedule.warmup)
        if schedule.kind == "steps":
            return self.lr * schedule.factor ** sum(epochs >= milestone for milestone in schedule.falls)
        falling = left if schedule.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))
        return self.lr * (schedule.final + (1 - schedule.final) * falling)

    def strength(self, epochs: float, native: int) -> float:
        """Return the factor of eps and step after `epochs` epochs; 0 is standard training."""
        attacked = self.done(epochs, native) - self.standard
        if attacked < 0:
            return 0.0
        return min(1.0, attacked / self.eps_warmup) if self.eps_warmup else 1.0


def _optimizers() -> list[str]:
    """Return timm's names of the optimizers that need only gradients."""
    from timm.optim import get_optimizer_info, list_optimizers

    names = [str(name) for name in list_optimizers()]
    return [name for name in names if not get_optimizer_info(name).second_order]


RECIPES = Bundled(Recipe, Path(__file__).parent / "recipes", "recipe")
recipe_names, load_recipe = RECIPES.names, RECIPES.load
