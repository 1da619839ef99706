"""The supernet: robust search by path dropout (paper, section 3.2 and algorithm 1), on the trainer's loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.data import Images
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import for_training
from robnet_zoo.nn.network import Network, modes_kept
from robnet_zoo.search.sampling import Sampling, draws
from robnet_zoo.search.space import SearchSpace
from robnet_zoo.training import Keeping, Recipe, train


class PathDropout:
    """A sub-network for each update, the same ones in every process: "randomly set some of the elements in α to 0".

    space: cell-based, one α for all cells; cell-free, one a cell. sampling: which α.
    """

    def __init__(self, space: SearchSpace, sampling: Sampling, *, seed: int) -> None:
        self.space, self.sampling, self.seed = space, sampling, seed

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these paths from others, as JSON."""
        return {
            "space": self.space.model_dump(mode="json"),
            "sampling": self.sampling.model_dump(mode="json"),
            "seed": self.seed,
        }

    def at(self, update: int) -> Genotype:
        """The sub-network of an update, whichever updates were before."""
        return next(draws(self.space, self.sampling, seed=f"{self.seed} path {update}"))


def train_supernet(
    space: SearchSpace,
    images: Images,
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    sampling: Sampling | None = None,
    keeping: Keeping | None = None,
    progress: bool = True,
) -> Network:
    """Train a supernet adversarially (paper, algorithm 1); returns it in eval mode.

    Each update draws a sub-network, attacks it and trains it, by the recipe, as `training.train` does: with its
    checkpoints, resumed when started again, under torchrun with its processes. The recipe's attack should go by the
    statistics of the batch: the running ones of a supernet are a mixture over all its sub-networks. For the same reason
    the accuracy of the supernet as a whole says little; see `calibrated`. sampling: of the paths, by default uniform.
    Raises what `training.train` raises.
    """
    paths = PathDropout(space, sampling or Sampling(), seed=recipe.seed)
    supernet = train(space.supernet(), images, recipe, output, paths=paths, keeping=keeping, progress=progress)
    assert isinstance(supernet, Network)
    return supernet


@contextmanager
def calibrated(network: Network, batches: Iterable[Tensor], *, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """While the batch norms of a network hold the mean statistics of some batches, (N, C, H, W), in place of their own.

    The network itself, in the mode that it was in, is used within; a sub-network's norms are its supernet's, and hold
    their own statistics again afterwards. Without batches nothing changes.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm, norm.momentum, {name: value.clone() for name, value in norm.named_buffers()}) for norm in norms]
    form, seen = for_training(network, dtype=dtype), False
    try:
        with modes_kept(network):
            network.train()
            for batch in batches:
                if not seen:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # the mean over all batches
                with torch.no_grad():
                    form(batch)
                seen = True
        yield
    finally:
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for name, value in norm.named_buffers():
                value.copy_(buffers[name])
