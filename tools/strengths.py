"""Measure `strong`, or its parts, on networks that are not bundled: `python -m tools.strengths --help`.

Two of the paper's comparison networks, reduced and trained here in minutes, and bundled weights behind rounded pixels,
which hide every gradient. `tools.docs` makes the tables of docs/robustness.md from the documents, one for each model
and protocol. What was begun is continued.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import timm
from torch import Tensor, nn

import robnet_zoo  # noqa: F401 - registers the models
from robnet_zoo import data
from robnet_zoo.benchmarks import Target, evaluate, load_protocol, load_target, of_module
from robnet_zoo.training import load_recipe, train
from robnet_zoo.zoo.architecture import TimmArchitecture
from tools import committed

STRONG = committed.ROBUSTNESS / "strong"
REDUCED = {"resnet18_cifar": {"width": 0.25, "depth": 0.5}, "vgg16_cifar": {"width": 0.25}}
RECIPE = {
    "epochs": 8,
    "lr": 0.05,
    "stages": ({"size": 16, "epochs": 4}, {"size": 24, "epochs": 2}),
    "guard": None,
    "attack": {"dtype": "float32"},
    "dtype": "float32",
}  # what differs from `fast`
BUNDLED = "robnet_micro.cifar10"
LEVELS = 16
MASKED_NAME = f"{BUNDLED}, pixels of {LEVELS} levels"


class Rounded(nn.Module):
    """A model behind pixels that are rounded to LEVELS levels, so that its gradient is zero everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * (LEVELS - 1)).round() / (LEVELS - 1))  # type: ignore[no-any-return]


def trained(model: str, cifar: Path, work: Path) -> Target:
    """Return a model of REDUCED, trained in a folder of `work`, where it is continued or found."""
    architecture = TimmArchitecture(model=model, num_classes=10, input_size=(3, 32, 32), **REDUCED[model])
    recipe = load_recipe("fast").overridden({"name": "reduced", **RECIPE})
    train(architecture, data.load(cifar / "cifar10_train.npz", train=True), recipe, work / model)
    target = load_target(work / model)
    return replace(target, identity=target.identity.model_copy(update={"name": model}))


def masked() -> Target:
    """Return bundled weights behind rounded pixels."""
    model = timm.create_model(BUNDLED, pretrained=True).eval()
    return of_module(Rounded(model), name=MASKED_NAME)


def main(
    model: Literal["resnet18_cifar", "vgg16_cifar", "masked"],
    *,
    cifar: Path,
    work: Path,
    n: int = 500,
    protocol: Literal["strong_autoattack", "strong_parts"] = "strong_autoattack",
) -> None:
    """Measure a model.

    Args:
        model: A reduced comparison network, which is trained first, or bundled weights behind rounded pixels.
        cifar: A folder with cifar10_train.npz and cifar10_test1k.npz.
        work: A folder for what is trained.
        n: How many test images.
        protocol: `strong` beside AutoAttack, or with one part taken away at a time.
    """
    target = masked() if model == "masked" else trained(model, cifar, work)
    asked = load_protocol(protocol).model_copy(update={"n": n})
    output = (STRONG / "parts" if protocol == "strong_parts" else STRONG) / f"{model}.json"
    result = evaluate(target, data.load(cifar / "cifar10_test1k.npz"), asked, output=output)
    committed.without_pictures(result).save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
