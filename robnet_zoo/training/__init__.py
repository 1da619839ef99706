"""Adversarial training: a recipe, the loop that follows it, checkpoints that it goes on from."""

from robnet_zoo.errors import TrainingError
from robnet_zoo.training.checkpoints import Keeping
from robnet_zoo.training.duration import Estimate, StageEstimate, estimate
from robnet_zoo.training.loop import train
from robnet_zoo.training.recipe import Attack, Guard, Objective, Recipe, Schedule, Stage, load_recipe, recipe_names

__all__ = [
    "Attack",
    "Estimate",
    "Guard",
    "Keeping",
    "Objective",
    "Recipe",
    "Schedule",
    "Stage",
    "StageEstimate",
    "TrainingError",
    "estimate",
    "load_recipe",
    "recipe_names",
    "train",
]
