"""Random numbers that belong to a sample: keyed by seed, sample, restart and purpose, and by nothing else.

So neither the size of a batch, nor the order of the samples, nor who else is attacked changes what a sample gets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Key(NamedTuple):
    """Of the random numbers of one try on one sample."""

    seed: int
    sample: int
    restart: int

    def generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for every key and purpose (Philox, a counter-based generator)."""
        digest = hashlib.blake2b(f"{self.seed} {self.sample} {self.restart} {purpose}".encode(), digest_size=16)
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def uniform(keys: Sequence[Key], like: Tensor, purpose: str) -> Tensor:
    """Uniform in [-1, 1], a row a key, in shape, dtype and device of `like`, (N, ...)."""
    rows = [key.generator(purpose).uniform(-1, 1, like.shape[1:]) for key in keys]
    return torch.from_numpy(np.stack(rows)).to(like)


def normal(keys: Sequence[Key], like: Tensor, purpose: str) -> Tensor:
    """Standard normal, a row a key, in shape, dtype and device of `like`, (N, ...)."""
    rows = [key.generator(purpose).standard_normal(like.shape[1:]) for key in keys]
    return torch.from_numpy(np.stack(rows)).to(like)
