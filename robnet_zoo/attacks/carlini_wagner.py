"""The l2 attack of Carlini and Wagner (2017), equation 8 with f6: the least change that fools, by Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Rows, Seen
from robnet_zoo.attacks.losses import LossName, margin_of_answer
from robnet_zoo.attacks.minimal import MinimalAttack
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

BETAS = (0.9, 0.999)  # Adam's
EDGE = 1 - 1e-6  # how near to black and white tanh can come


class CarliniWagner(MinimalAttack):
    """The l2 attack of Carlini and Wagner (2017, equation 8): the least change that fools, by Adam.

    |x - clean|^2 + c f(x) over w, with x = (tanh w + 1) / 2, and a binary search for c; f is the hinge of the margin at
    -confidence. searches: the values of c that are tried, each with `steps` steps of Adam. The result is the nearest
    image that fools the model, whatever eps is; it counts if it lies in the ball.
    """

    kind: Literal["cw_l2"] = "cw_l2"
    searches: Annotated[int, Field(ge=1, le=100)] = 9
    steps: Annotated[int, Field(ge=1, le=100_000, description="of Adam, for each c")] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    initial_c: Annotated[float, Field(gt=0)] = 0.01
    confidence: Annotated[float, Field(ge=0)] = 0.0

    loss: ClassVar[LossName] = "margin"

    @property
    def default_name(self) -> str:
        return "cw_l2"

    @property
    def max_steps(self) -> int:
        return self.searches * self.steps

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        clean = rows["clean"]
        rows["origin"] = torch.atanh((2 * clean - 1) * EDGE)
        self.set_out(rows, torch.full_like(rows["eps"], torch.inf))
        rows["c"] = torch.full_like(rows["eps"], self.initial_c)
        rows["low"], rows["high"] = torch.zeros_like(rows["eps"]), torch.full_like(rows["eps"], torch.inf)
        self._restart(rows, torch.ones_like(rows["eps"], dtype=torch.bool))

    def _restart(self, rows: Rows, where: Tensor) -> None:
        """Begin a search at some rows: reset Adam, and w to that of the clean image. where: bool (N, 1, 1, 1)."""
        zero = torch.zeros_like(rows["clean"])
        rows["w"] = torch.where(where, rows["origin"], rows.get("w", zero))
        for key in ("first", "second"):
            rows[key] = torch.where(where, zero, rows.get(key, zero))
        rows["fooled"] = torch.where(where, False, rows.get("fooled", where))

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        x, clean = rows["x"], rows["clean"]
        margins = margin_of_answer(seen.logits, rows["label"], rows["target"])[:, None, None, None]
        fooled = margins > self.confidence
        self.keep_nearest(rows, fooled)
        rows["fooled"] = rows["fooled"] | fooled
        hinge = torch.where(margins < self.confidence, -seen.gradient, torch.zeros_like(seen.gradient))
        slope = (2 * (x - clean) + rows["c"] * hinge) * (1 - torch.tanh(rows["w"]).square()) / 2
        done = (rows["t"] % self.steps + 1)[:, None, None, None]  # of this search, with this step
        rows["first"] = BETAS[0] * rows["first"] + (1 - BETAS[0]) * slope
        rows["second"] = BETAS[1] * rows["second"] + (1 - BETAS[1]) * slope.square()
        mean, square = rows["first"] / (1 - BETAS[0] ** done), rows["second"] / (1 - BETAS[1] ** done)
        rows["w"] = rows["w"] - self.learning_rate * mean / (square.sqrt() + 1e-8)
        self._search(rows, done == self.steps)
        rows["x"] = (torch.tanh(rows["w"]) / EDGE + 1).div(2).clamp(0, 1)

    def _search(self, rows: Rows, over: Tensor) -> None:
        """Choose the next c where a search is over: a smaller one if it fooled the model, else a larger one."""
        fooled = rows["fooled"]
        rows["high"] = torch.where(over & fooled, torch.minimum(rows["high"], rows["c"]), rows["high"])
        rows["low"] = torch.where(over & ~fooled, torch.maximum(rows["low"], rows["c"]), rows["low"])
        bounded = rows["high"].isfinite()
        following = torch.where(bounded, (rows["low"] + rows["high"]) / 2, rows["c"] * 10)
        rows["c"] = torch.where(over, following, rows["c"])
        self._restart(rows, over)
