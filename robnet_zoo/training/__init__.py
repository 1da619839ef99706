"""Adversarial training: a recipe, the loop that follows it, checkpoints that it goes on from."""

from robnet_zoo.training.loop import TrainingError, train
from robnet_zoo.training.recipe import RECIPES, Attack, Recipe, Stage

__all__ = ["RECIPES", "Attack", "Recipe", "Stage", "TrainingError", "train"]
