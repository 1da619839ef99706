"""Training runs of the tests: what they leave, compared and read."""

import csv
from pathlib import Path

import torch

from robnet_zoo.nn.network import Network
from robnet_zoo.training import (
    Distillation,
    Guard,
    Objective,
    Recipe,
    Stage,
    TrainingAttack,
)


def changed(recipe: Recipe, **changes) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | changes)


def assert_same_weights(first: Network, second: Network) -> None:
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def last_state(folder: Path) -> dict:
    return torch.load(max((folder / "checkpoints").glob("*.pt")), weights_only=True)


EVERYTHING = {
    "ema": 0.9,
    "dtype": "bfloat16",
    "clip": 1.0,
    "stages": (Stage(size=16, epochs=1),),
    "guard": Guard(updates=2, images=8, steps=2, share=0.9),
    "select": "best",
    "attack": TrainingAttack(kind="fgsm_pgi", steps=1, step="8/255", statistics="batch", momentum=0.3),
    "objective": Objective(tie=10.0, distillation=Distillation(), label_smoothing=0.1),
    "standard": 0.05,
    "eps_warmup": 0.2,
}
