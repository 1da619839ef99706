"""Adversarial training: recipes, the loop that follows them, checkpoints to resume from, estimates of time.

from robnet_zoo import data, load_spec, training

images = data.load("cifar10-train:data", train=True)
network = training.train(load_spec("robnet_free"), images, training.load_recipe("fast"), "runs/free")
"""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy
from robnet_zoo.errors import TrainingError

if TYPE_CHECKING:
    from robnet_zoo.training.checkpoints import Keeping
    from robnet_zoo.training.duration import StageEstimate, TrainingEstimate, estimate, within_minutes
    from robnet_zoo.training.loop import train
    from robnet_zoo.training.recipe import (
        Augmentation,
        Distillation,
        Guard,
        Objective,
        Recipe,
        Schedule,
        Stage,
        TrainingAttack,
        load_recipe,
        recipe_names,
    )
    from robnet_zoo.training.result import Epoch, TrainingResult

__all__ = [
    # training
    "train",
    "Keeping",
    "TrainingError",
    # the recipe and its parts
    "Recipe",
    "TrainingAttack",
    "Objective",
    "Distillation",
    "Schedule",
    "Augmentation",
    "Stage",
    "Guard",
    "load_recipe",
    "recipe_names",
    # what a run leaves
    "TrainingResult",
    "Epoch",
    # how long a run takes
    "estimate",
    "within_minutes",
    "TrainingEstimate",
    "StageEstimate",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".checkpoints": ("Keeping",),
        ".duration": ("StageEstimate", "TrainingEstimate", "estimate", "within_minutes"),
        ".loop": ("train",),
        ".recipe": (
            "Augmentation",
            "Distillation",
            "Guard",
            "Objective",
            "Recipe",
            "Schedule",
            "Stage",
            "TrainingAttack",
            "load_recipe",
            "recipe_names",
        ),
        ".result": ("Epoch", "TrainingResult"),
    },
)
