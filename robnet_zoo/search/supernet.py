"""The supernet, trained with path dropout (paper, section 3.2 and algorithm 1) by the trainer's own loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.data import Images
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import for_training
from robnet_zoo.nn.network import Network, modes_kept
from robnet_zoo.search.config import Sandwich
from robnet_zoo.search.sampling import Sampling, draws
from robnet_zoo.search.space import SearchSpace
from robnet_zoo.training import Keeping, Recipe, train


class PathDropout:
    """A sub-network for each update, the same in every process: "randomly set some of the elements in α to 0".

    space: a cell-based one has one α for all cells, a cell-free one has one for each. sampling: which α are drawn.
    sandwich: what an update trains instead of one path.
    """

    def __init__(self, space: SearchSpace, sampling: Sampling, *, seed: int, sandwich: Sandwich | None = None) -> None:
        self.space, self.sampling, self.seed, self.sandwich = space, sampling, seed, sandwich

    @property
    def identity(self) -> dict[str, Any]:
        """Return what distinguishes these paths from others, as JSON."""
        rule = {} if self.sandwich is None else {"sandwich": self.sandwich.identity}
        return {
            "space": self.space.model_dump(mode="json"),
            "sampling": self.sampling.model_dump(mode="json"),
            "seed": self.seed,
            **rule,
        }

    def at(self, update: int) -> Genotype:
        """Return the sub-network of an update, whichever updates came before."""
        return next(self._drawn(update))

    def beside(self, update: int, done: float) -> tuple[Genotype, ...] | None:
        """Return the sub-networks that an update trains beside the whole network: random ones and the smallest.

        At the start of a sandwich it may train the whole network alone. Without a sandwich it trains one path instead.

        Args:
            update: its number.
            done: the share of the run that is done.
        """
        if self.sandwich is None:
            return None
        if done < self.sandwich.whole_first:
            return ()
        return *islice(self._drawn(update), self.sandwich.random), self._smallest

    @property
    def distils(self) -> bool:
        """Return whether those learn the answers of the whole network."""
        return self.sandwich is not None and self.sandwich.distillation

    @cached_property
    def _smallest(self) -> Genotype:
        return self.space.smallest()

    def _drawn(self, update: int) -> Iterator[Genotype]:
        return draws(self.space, self.sampling, seed=f"{self.seed} path {update}")


def train_supernet(
    space: SearchSpace,
    images: Images,
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    sampling: Sampling | None = None,
    sandwich: Sandwich | None = None,
    keeping: Keeping | None = None,
    progress: bool = True,
) -> Network:
    """Train a supernet adversarially (paper, algorithm 1) and return it in eval mode.

    Each update draws a sub-network, attacks it and trains it by the recipe, as `training.train` does: with checkpoints,
    resumed when called again, and in all processes of torchrun. The recipe's attack should use the batch's statistics
    in its batch norms, since the running statistics of a supernet are a mixture over all its sub-networks. For the same
    reason the accuracy of the whole supernet says little; see `calibrated`.

    Args:
        space: the supernet's.
        images: to train on.
        recipe: of the training.
        output: the folder of the training run.
        sampling: which paths are drawn; by default uniform ones.
        sandwich: what an update trains instead of one path.
        keeping: which checkpoints are kept.
        progress: whether progress is shown on stderr.

    Raises: what `training.train` raises.
    """
    paths = PathDropout(space, sampling or Sampling(), seed=recipe.seed, sandwich=sandwich)
    supernet = train(space.supernet(), images, recipe, output, paths=paths, keeping=keeping, progress=progress)
    assert isinstance(supernet, Network)
    return supernet


@contextmanager
def calibrated(network: Network, batches: Iterable[Tensor], *, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Give the batch norms of a network the mean statistics of some batches while the context lasts.

    The network keeps its mode. Its norms may be those of a supernet; they have their own statistics again afterwards.
    Without batches nothing changes.

    Args:
        batches: images, (N, C, H, W).
        dtype: in which the network computes on them.
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
