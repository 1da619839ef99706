"""VMI-FGSM (Wang and He, 2021): MI-FGSM whose gradient is corrected by those around the image before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, Rows, Seen
from robnet_zoo.attacks.momentum import Copies, ViewsAttack
from robnet_zoo.attacks.random import Draws, Key, uniform_from
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")


class VmiFgsm(ViewsAttack):
    """VMI-FGSM (Wang and He, 2021, algorithm 1): MI-FGSM with variance tuning.

    To the gradient is added what the mean gradient around the image had beyond the image's own, a step earlier.
    neighbours: points drawn uniformly from the cube around the image. radius: of the cube, in radii of the ball.
    """

    kind: Literal["vmi_fgsm"] = "vmi_fgsm"
    neighbours: Copies = 20
    radius: Annotated[float, Field(ge=0)] = 1.5

    @property
    def default_name(self) -> str:
        return "vmi_fgsm"

    @property
    def is_random(self) -> bool:
        return True

    @property
    def views(self) -> int:
        return 1 + self.neighbours

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        rows["variance"] = torch.zeros_like(rows["clean"])

    def view(self, x: Tensor, rows: Rows, number: int, draws: Draws) -> Tensor:
        if number == 0:
            return x
        return x + self.radius * rows["eps"] * self.entry(x) * uniform_from(draws, x)

    def query(self, model: Classifier, rows: Rows) -> Seen:
        looks = self.looks(model, rows)
        logits, own = next(looks)
        around = sum((gradient for _, gradient in looks), torch.zeros_like(own)) / self.neighbours
        return Seen(logits, torch.stack([own, around], dim=1), forwards=self.views, backwards=self.views)

    def direction(self, rows: Rows, gradient: Tensor) -> Tensor:
        own, around = gradient.unbind(1)
        tuned = own + rows["variance"]
        rows["variance"] = around - own
        return super().direction(rows, tuned)
