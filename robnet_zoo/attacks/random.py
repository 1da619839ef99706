"""Counter-based random numbers, keyed by seed, sample, restart and purpose, and by nothing else.

A sample gets the same numbers whatever the size of the batch, the order of the samples and the others beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")

Draws: TypeAlias = "Sequence[np.random.Generator]"
"""Where rows take their random numbers from, one a row."""


class Key(NamedTuple):
    """The key of the random numbers of one try on one sample."""

    seed: int
    sample: int
    restart: int

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the generator of a key and a purpose: Philox (Salmon et al., 2011), keyed by a hash of both."""
        digest = hashlib.blake2b(f"{self.seed} {self.sample} {self.restart} {purpose}".encode(), digest_size=16)
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def uniform(keys: Sequence[Key], like: Tensor, purpose: str) -> Tensor:
    """Return uniform numbers in [-1, 1], (N, ...).

    Args:
        keys: one a row.
        like: (N, ...), which gives the shape, the dtype and the device.
        purpose: what the numbers are for; each purpose has numbers of its own.
    """
    return uniform_from([key.generator(purpose) for key in keys], like)


def normal(keys: Sequence[Key], like: Tensor, purpose: str) -> Tensor:
    """Return standard normal numbers, (N, ...).

    Args:
        keys: one a row.
        like: (N, ...), which gives the shape, the dtype and the device.
        purpose: what the numbers are for; each purpose has numbers of its own.
    """
    return normal_from([key.generator(purpose) for key in keys], like)


def uniform_from(draws: Draws, like: Tensor) -> Tensor:
    """Return uniform numbers in [-1, 1], the next ones of each row's generator: (N, ...) as `like` is."""
    return torch.from_numpy(np.stack([draw.uniform(-1, 1, like.shape[1:]) for draw in draws])).to(like)


def normal_from(draws: Draws, like: Tensor) -> Tensor:
    """Return standard normal numbers, the next ones of each row's generator: (N, ...) as `like` is."""
    return torch.from_numpy(np.stack([draw.standard_normal(like.shape[1:]) for draw in draws])).to(like)


def streams(keys: Sequence[Key], purpose: str) -> Tensor:
    """Return the halves of the Philox key of each try's own stream, int64 (N, 2), for numbers that a step needs.

    Args:
        keys: one a row.
        purpose: what the numbers are for; each purpose has a stream of its own.
    """
    return torch.from_numpy(np.stack([key.generator(purpose).integers(0, 2**63 - 1, 2) for key in keys]))


def generators(streams: Tensor, t: Tensor) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield, for each row, the generator of the numbers of its next step, and how many steps came before.

    Args:
        streams: what `streams` gave, (N, 2).
        t: how many steps came before, (N,).
    """
    for stream, before in zip(streams.tolist(), t.tolist(), strict=True):
        yield np.random.Generator(np.random.Philox(key=stream, counter=before << 64)), before
