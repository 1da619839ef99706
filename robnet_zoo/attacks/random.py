"""Counter-based random numbers, keyed by seed, sample, restart and purpose, and by nothing else.

A sample gets the same numbers whatever the size of the batch, the order of the samples and the others beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")


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
    rows = [key.generator(purpose).uniform(-1, 1, like.shape[1:]) for key in keys]
    return torch.from_numpy(np.stack(rows)).to(like)


def normal(keys: Sequence[Key], like: Tensor, purpose: str) -> Tensor:
    """Return standard normal numbers, (N, ...).

    Args:
        keys: one a row.
        like: (N, ...), which gives the shape, the dtype and the device.
        purpose: what the numbers are for; each purpose has numbers of its own.
    """
    rows = [key.generator(purpose).standard_normal(like.shape[1:]) for key in keys]
    return torch.from_numpy(np.stack(rows)).to(like)
