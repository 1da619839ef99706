"""How a network does on the held-out images while it trains: clean, and under PGD."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import pgd
from robnet_zoo.compiler import for_inference
from robnet_zoo.data import Images
from robnet_zoo.network import Network
from robnet_zoo.training.augmentation import resize
from robnet_zoo.training.distributed import World
from robnet_zoo.training.recipe import Recipe

STEPS = 10  # of PGD, each a quarter of eps


def validate(
    network: Network,
    images: Images,
    recipe: Recipe,
    world: World,
    *,
    size: int,
    steps: int = STEPS,
    generator: torch.Generator,
) -> dict[str, float]:
    """Accuracy without attack and under PGD at the recipe's eps, as shares of the images: `clean` and `robust`.

    size: pixels a side, as in training: a network that has seen small images alone is no judge of whole ones. The
    network's mode stays as it is, and so does everything else of it.
    """
    mode = network.training
    network.eval()
    fast = for_inference(network, dtype=getattr(torch, recipe.attack.dtype))
    eps = recipe.attack.eps_value
    clean = robust = 0
    for pixels, labels in images[world.rank :: world.size].batches(recipe.batch):
        pixels, labels = resize(pixels.to(world.device), size), labels.to(world.device)
        clean += _right(network, pixels, labels)
        found = pgd(fast, pixels, labels, eps=eps, step=eps / 4, steps=steps, generator=generator)
        robust += _right(network, found, labels)
    network.train(mode)
    totals = world.total([clean, robust])
    return {"clean": totals[0] / len(images), "robust": totals[1] / len(images)}


@torch.no_grad()
def _right(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    return int((network(images).argmax(1) == labels).sum())
