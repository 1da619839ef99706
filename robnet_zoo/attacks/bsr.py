"""Block shuffle and rotation (Wang et al., 2024): gradients at images whose blocks change places and turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Rows
from robnet_zoo.attacks.momentum import Copies, ViewsAttack
from robnet_zoo.attacks.random import Draws
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")
    F = lazy.module("torch.nn.functional")


class Bsr(ViewsAttack):
    """Block shuffle and rotation (Wang et al., 2024), with the momentum of MI-FGSM.

    The gradient is the mean at shuffled images: cut into strips along one side, which change places and turn, each by
    an angle of its own; then each strip is cut across into blocks that change places in it.
    shuffles: how many a step. blocks: along a side, of random sizes. angle: the largest, in degrees.
    The strips turn, as in the authors' code, and not the blocks, as in the paper.
    """

    kind: Literal["bsr"] = "bsr"
    shuffles: Copies = 20
    blocks: Annotated[int, Field(ge=1, le=100)] = 2
    angle: Annotated[float, Field(ge=0, le=180)] = 24.0

    @property
    def default_name(self) -> str:
        return "bsr"

    @property
    def is_random(self) -> bool:
        return True

    @property
    def views(self) -> int:
        return self.shuffles

    def view(self, x: Tensor, rows: Rows, number: int, draws: Draws) -> Tensor:
        height, width = x.shape[2:]
        sources = np.stack([self._sources(draw, height, width) for draw in draws])  # (N, H, W, 2), in pixels
        outside = torch.from_numpy(np.isnan(sources).any(-1)).to(x.device)[:, None]
        grid = (2 * np.nan_to_num(sources) + 1) / (width, height) - 1
        shown = F.grid_sample(x, torch.from_numpy(grid).to(x), align_corners=False)
        return torch.where(outside, 0, shown)

    def _sources(self, draw: np.random.Generator, height: int, width: int) -> Any:
        """Return the column and row that each pixel comes from, NaN for none: (H, W, 2)."""
        if draw.random() < 0.5:
            return self._strips(draw, height, width)
        return self._strips(draw, width, height).transpose(1, 0, 2)[..., ::-1]

    def _strips(self, draw: np.random.Generator, height: int, width: int) -> Any:
        """Return the same for strips that lie above each other."""
        sources = []
        for top, size in self._cut(draw, height):
            angle = math.radians(draw.uniform(-self.angle, self.angle))
            columns = np.concatenate([left + np.arange(length) for left, length in self._cut(draw, width)])
            right, down = np.meshgrid(columns - (width - 1) / 2, np.arange(size) - (size - 1) / 2)
            column = right * math.cos(angle) - down * math.sin(angle) + (width - 1) / 2
            row = right * math.sin(angle) + down * math.cos(angle) + (size - 1) / 2
            lost = (column < -0.5) | (column > width - 0.5) | (row < -0.5) | (row > size - 0.5)
            sources.append(np.where(lost[..., None], np.nan, np.stack([column, row + top], axis=-1)))
        return np.concatenate(sources)

    def _cut(self, draw: np.random.Generator, length: int) -> Any:
        """Return where the blocks along a side begin and how long they are, shuffled: (B, 2)."""
        shares = draw.uniform(1, 2, self.blocks)
        sizes = np.rint(shares / shares.sum() * length).astype(int)
        sizes[sizes.argmax()] += length - sizes.sum()
        return draw.permutation(np.stack([sizes.cumsum() - sizes, sizes], axis=1))
