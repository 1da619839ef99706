"""A search space, images and a config that take milliseconds."""

from __future__ import annotations

from functools import cache

from robnet_zoo import data
from robnet_zoo.genotype.genotype import NetworkConfig
from robnet_zoo.search.config import SearchConfig
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.training import Recipe, TrainingAttack
from robnet_zoo.training.recipe import Augmentation

NETWORK = NetworkConfig(
    stem="cifar", channels=4, depth=3, reductions=(1,), num_classes=10, input_size=(3, 8, 8), affine=False
)
FULL = NETWORK.model_copy(update={"channels": 6, "depth": 6, "reductions": (2, 4), "input_size": (3, 32, 32)})
SINGLE_STEP = TrainingAttack(kind="n_fgsm", step="8/255", steps=1, dtype="float32", statistics="batch")
PLAIN = Augmentation(crop=0, flip=False)
RECIPE = Recipe(name="supernet", epochs=2, batch=32, lr=0.05, attack=SINGLE_STEP, augmentation=PLAIN, validation=0)


def space(kind: Kind, *, nodes: int = 2) -> SearchSpace:
    return SearchSpace(kind=kind, nodes=nodes, network=NETWORK)


@cache
def images(n: int = 180) -> data.Images:
    """Return scans of digits at 8 pixels, the size that they were made at; the last tenth is held out."""
    return data.resized(data.digits()[0][:n], 8)


def config() -> SearchConfig:
    """Return a search of both kinds, with a filter and picks."""
    finetune = RECIPE.model_copy(update={"epochs": 1, "augmentation": PLAIN})
    branch = {"network": NETWORK, "supernet": RECIPE}
    return SearchConfig.parse(
        {
            "name": "tiny",
            "nodes": 2,
            "full": FULL,
            "images": 200,
            "evaluation": {"finetune": finetune, "images": 64, "calibration": 1, "validation": 40, "steps": 2},
            "branches": [
                {
                    "kind": "cell_based",
                    "groups": [
                        {"name": "uniform", "count": 4},
                        {"name": "small", "count": 2, "sampling": {"budget": "small", "density_from": 0.5}},
                    ],
                    "picks": [{"name": "tiny_small", "group": "small"}],
                    **branch,
                },
                {
                    "kind": "cell_free",
                    "groups": [{"name": "uniform", "count": 5, "filter": {"images": 20, "last": 2, "keep": 0.4}}],
                    "picks": [{"name": "tiny_free", "group": "uniform"}],
                    **branch,
                },
            ],
        }
    )
