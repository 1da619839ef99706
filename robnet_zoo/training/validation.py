"""The accuracy on held-out images while a network trains: clean, and under PGD."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import pgd
from robnet_zoo.attacks.losses import is_right
from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.data import Images
from robnet_zoo.nn.forms.autocast import attack_form
from robnet_zoo.training.augmentation import resize
from robnet_zoo.training.distributed import World
from robnet_zoo.training.recipe import Recipe

STEPS = 10  # of PGD, each a quarter of eps
ATTACK = f"PGD-{STEPS}"  # what cards and curves call it


def validate(
    network: nn.Module,
    images: Images,
    recipe: Recipe,
    world: World,
    *,
    size: int,
    steps: int = STEPS,
    generator: torch.Generator,
) -> dict[str, float]:
    """Return the accuracy without attack and under PGD at the recipe's eps, as shares: `clean` and `robust`.

    The network does not change.

    Args:
        network: what is measured, in eval mode.
        images: the held-out images.
        recipe: of the run: its eps and the arithmetic of its attack.
        world: the processes that share the images.
        size: pixels a side. A network that was only trained on small images cannot be judged on larger ones.
        steps: of PGD, each a quarter of eps.
        generator: of the random starts.
    """
    mode = network.training
    network.eval()
    own = images[world.rank :: world.size].batches(recipe.batch)
    batches = ((resize(pixels.to(world.device), size), labels.to(world.device)) for pixels, labels in own)
    eps, dtype = recipe.attack.eps_value, resolve_dtype(recipe.attack.dtype, world.device)
    clean = robust = 0
    for pixels, adversarial, labels in under_pgd(
        network, batches, eps=eps, step=eps / 4, steps=steps, dtype=dtype, generator=generator
    ):
        clean += right(network, pixels, labels)
        robust += right(network, adversarial, labels)
    network.train(mode)
    totals = world.total([clean, robust])
    return {"clean": totals[0] / len(images), "robust": totals[1] / len(images)}


def under_pgd(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    eps: float,
    step: float,
    steps: int,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (images, adversarial images, labels) of batches, by PGD from random starts.

    Args:
        network: what is attacked, in eval mode.
        batches: images, (N, C, H, W) in [0, 1], and labels, (N,).
        eps, step: in image units.
        steps: their number.
        dtype: of the attack's arithmetic.
        generator: of the random starts.
    """
    fast = attack_form(network, dtype=dtype)
    for images, labels in batches:
        yield images, pgd(fast, images, labels, eps=eps, step=step, steps=steps, generator=generator), labels


@torch.no_grad()
def right(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return how many images the network classifies as their labels.

    Args:
        network: in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
    """
    return int(is_right(network(images), labels).sum())
