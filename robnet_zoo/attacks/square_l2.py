"""Square (Andriushchenko et al., 2020), the l2 form: random search by windows, from logits alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from robnet_zoo.attacks.attack import Rows
from robnet_zoo.attacks.ball import Norm, project, steepest
from robnet_zoo.attacks.random import Key, generators
from robnet_zoo.attacks.square import Square
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")

TILES = 5  # along a side, of the start
TINY = 1e-12  # below which a length counts as zero


class SquareL2(Square):
    """Square in l2 (Andriushchenko et al., 2020, algorithm 3), random search on answers alone.

    The start is a tiling of bumps. Then the mass of one window moves to another, where it raises the margin: a window
    holds a bump and a dent beside each other, and always uses up eps.
    """

    kind: Literal["square_l2"] = "square_l2"  # type: ignore[assignment]

    @property
    def default_name(self) -> str:
        return "square_l2"

    @property
    def ball(self) -> Norm:
        return "l2"

    def _start(self, keys: Sequence[Key], clean: Tensor, eps: Tensor) -> Tensor:
        channels, height, width = clean.shape[1:]
        side = max(1, min(height, width) // TILES)
        tops, lefts = (range((length - side * TILES) // 2, length - side + 1, side) for length in (height, width))
        starts = np.zeros(clean.shape)
        for start, key in zip(starts, keys, strict=True):
            generator = key.generator("tiles")
            for top in tops if height >= TILES else range(height):
                for left in lefts if width >= TILES else range(width):
                    tile = _bump(side, generator) * generator.choice([-1.0, 1.0], (channels, 1, 1))
                    start[:, top : top + side, left : left + side] = tile
        return project(clean + eps * steepest(torch.from_numpy(starts).to(clean), "l2"), clean, eps, "l2")

    def _proposed(self, rows: Rows) -> Tensor:
        clean, eps = rows["clean"], rows["eps"]
        _, channels, height, width = clean.shape
        shape = (len(clean), 1, height, width)
        bumps = np.zeros((len(clean), channels, height, width))
        inside, emptied = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for row, (generator, t) in enumerate(generators(rows["stream"], rows["t"])):
            side = self._side(t, height, width)
            for window in (inside, emptied):
                top, left = generator.integers(0, (height - side + 1, width - side + 1))
                window[row, :, top : top + side, left : left + side] = True
            bump = _bump(side, generator) * generator.choice([-1.0, 1.0], (channels, 1, 1))
            bumps[row][np.broadcast_to(inside[row], (channels, height, width))] = bump.ravel()
        first, second = (torch.from_numpy(window).to(clean.device) for window in (inside, emptied))
        delta = rows["kept"] - clean
        old = torch.where(first, delta, 0)
        filled = torch.from_numpy(bumps).to(clean) + old / (_size(old) + TINY)
        free = (eps.square() - delta.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / channels
        budget = (free + _size(torch.where(first | second, delta, 0)).square()).sqrt()  # (N, C, 1, 1)
        filled = filled / (_size(filled) + TINY) * budget
        delta = torch.where(first, filled, torch.where(second, 0, delta))
        return project(clean + eps * steepest(delta, "l2"), clean, eps, "l2")

    def _side(self, t: int, height: int, width: int) -> int:
        """Return the side of the windows that query t + 1 tries, in pixels: odd and at least 3, if the image is."""
        side = max(round((self._share(t) * height * width) ** 0.5), 3)
        return min(side + 1 - side % 2, height, width)


def _size(delta: Tensor) -> Tensor:
    """Return the l2 norm of each channel: (N, C, H, W) -> (N, C, 1, 1)."""
    return delta.square().sum((2, 3), keepdim=True).sqrt()


def _bump(side: int, generator: np.random.Generator) -> Any:
    """Return a bump and a dent of length 1 together, beside or above each other at random: (S, S)."""
    pattern = _bump_and_dent(side)
    return pattern.T if generator.random() > 0.5 else pattern


@lru_cache(maxsize=256)
def _bump_and_dent(side: int) -> Any:
    """Return a bump in the upper half and a dent in the lower, of length 1 together: (S, S)."""
    upper, lower = side // 2, side - side // 2
    pattern = np.concatenate([_pyramid(upper, side), -_pyramid(lower, side)])
    return pattern / np.sqrt((pattern**2).sum())


def _pyramid(height: int, width: int) -> Any:
    """Return rectangles around the centre on each other, the n-th of height n ** -2, of length 1 together: (H, W)."""
    pyramid = np.zeros((height, width))
    middle, centre = height // 2, width // 2
    for ring in range(max(middle, centre) + 1):
        pyramid[max(middle - ring, 0) : middle + ring + 1, max(centre - ring, 0) : centre + ring + 1] += (
            ring + 1
        ) ** -2
    return pyramid / np.sqrt((pyramid**2).sum()) if height else pyramid
