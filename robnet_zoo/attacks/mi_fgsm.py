"""Momentum iterative FGSM (Dong et al., 2018), with the input diversity of Xie et al. (2019) if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, Rows, Seen
from robnet_zoo.attacks.momentum import MomentumAttack
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy.module("torch")
    F = lazy.module("torch.nn.functional")


class MiFgsm(MomentumAttack):
    """Momentum iterative FGSM (Dong et al., 2018, algorithm 1), from the image itself.

    The gradient, divided by its l1 norm, is added to `decay` times the sum so far; a gradient of zero adds nothing.
    diversity: the probability with which a query sees the image shrunk to between 90 and 100 % and padded with zeros
    at a random place (Xie et al., 2019), which transfers better. Such a query does not tell whether the image itself
    fools the model, so every image then runs its full length.
    """

    kind: Literal["mi_fgsm"] = "mi_fgsm"
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def default_name(self) -> str:
        return "mi_fgsm" if not self.diversity else "mi_di_fgsm"

    @property
    def early(self) -> bool:
        return not self.diversity

    @property
    def is_random(self) -> bool:
        return self.diversity > 0

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        if self.diversity:  # one row of (applied, scale, shift right, shift down) a step
            draws = [key.generator("diversity").uniform(size=(self.steps, 4)) for key in keys]
            rows["diversity"] = torch.stack([torch.from_numpy(draw) for draw in draws]).to(rows["clean"])

    def query(self, model: Classifier, rows: Rows) -> Seen:
        if not self.diversity:
            return super().query(model, rows)
        index = rows["t"].clamp(max=self.steps - 1)[:, None, None].expand(-1, 1, 4)
        draws = rows["diversity"].gather(1, index)[:, 0]  # (N, 4)
        return super().query(lambda x: model(_diverse(x, draws, self.diversity)), rows)


def _diverse(x: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Return each image shrunk and shifted, or unchanged: (N, C, H, W). draws: (N, 4) in [0, 1]."""
    applied = draws[:, 0] < probability
    scale = 0.9 + 0.1 * draws[:, 1]
    shift = (2 * draws[:, 2:] - 1) * (1 - scale)[:, None]  # of the centre, in halves of a side
    theta = torch.zeros(len(x), 2, 3, dtype=x.dtype, device=x.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -shift / scale[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    return torch.where(applied[:, None, None, None], moved, x)
