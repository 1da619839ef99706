"""Spectrum simulation (Long et al., 2022): gradients at images whose frequencies are scaled at random."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Rows
from robnet_zoo.attacks.momentum import Copies, ViewsAttack
from robnet_zoo.attacks.random import Draws, normal_from, uniform_from
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")


class Ssa(ViewsAttack):
    """Spectrum simulation attack (Long et al., 2022), with the momentum of MI-FGSM: S2I-MI-FGSM of the paper.

    The gradient is the mean at images with noise, whose cosine transform is multiplied by random numbers.
    spectra: how many a step. rho: the factors are drawn uniformly from 1 - rho to 1 + rho. noise: the standard
    deviation of a pixel's noise, in radii of the ball.
    """

    kind: Literal["ssa"] = "ssa"
    spectra: Copies = 20
    rho: Annotated[float, Field(ge=0)] = 0.5
    noise: Annotated[float, Field(ge=0)] = 1.0

    @property
    def default_name(self) -> str:
        return "ssa"

    @property
    def is_random(self) -> bool:
        return True

    @property
    def views(self) -> int:
        return self.spectra

    def view(self, x: Tensor, rows: Rows, number: int, draws: Draws) -> Tensor:
        rise, run = (torch.from_numpy(cosines(side)).to(x) for side in x.shape[2:])
        noisy = x + self.noise * rows["eps"] * self.entry(x) * normal_from(draws, x)
        spectrum = rise @ noisy @ run.T * (1 + self.rho * uniform_from(draws, x))
        return rise.T @ spectrum @ run


@lru_cache(maxsize=16)
def cosines(side: int) -> Any:
    """Return the orthonormal matrix of the discrete cosine transform (DCT-II) of so many values: (S, S) in float64."""
    matrix = np.cos(np.pi / side * np.outer(np.arange(side), np.arange(side) + 0.5)) * (2 / side) ** 0.5
    matrix[0] /= 2**0.5
    return matrix
