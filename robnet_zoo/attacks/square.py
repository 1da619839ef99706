"""Square (Andriushchenko et al., 2020), the l-infinity form: random search by squares, from logits alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, Cost, Count, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import project
from robnet_zoo.attacks.losses import margin_of_answer
from robnet_zoo.attacks.random import Key, generators, streams
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = lazy.module("numpy")
    torch = lazy.module("torch")

# Algorithm 1's schedule, of 10,000 queries: the share of pixels halves after each of these.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
UNDECIDED = 0.1  # of the queries, in which squares are so large that little can be told from what they gain
HOPE = 2  # how many times as much as before a search may gain each time its queries double


class Square(IterativeAttack):
    """Square (Andriushchenko et al., 2020), random search on answers alone.

    Vertical stripes of +-eps, then squares of a colour +-eps each, kept where they raise the margin.
    share: the share of the pixels that the first square covers (p of the paper). Only logits are asked for.
    trial: after so many queries the search goes on only on images where it has come at least as near to another class
    as the attacks before it, as it does where a model hides its gradients. From a tenth of all queries on, it goes on
    only where it would arrive if it gained twice as much each time its queries double as it has so far. Without a trial
    every image gets all queries.
    """

    kind: Literal["square"] = "square"
    queries: Annotated[int, Field(ge=2, le=1_000_000)] = 5000
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    trial: Count | None = None

    @property
    def default_name(self) -> str:
        return "square"

    @property
    def gradient_free(self) -> bool:
        return True

    @property
    def climbs_margin(self) -> bool:
        return True

    @property
    def foreseeable(self) -> bool:
        return True

    @property
    def max_steps(self) -> int:
        return self.queries

    @property
    def is_random(self) -> bool:
        return True

    def usual_cost(self, num_classes: int) -> Cost:
        """Return the cost of the trials alone: no more is to be had where gradients tell the truth."""
        return Cost(self.restarts * min(self.queries, self.trial or self.queries), 0)

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        clean = rows["clean"]
        rows["x"] = self._start(keys, clean, rows["eps"])
        rows["kept"] = rows["x"]
        rows["best"] = torch.full((len(clean),), -torch.inf, dtype=clean.dtype, device=clean.device)
        rows["stream"] = streams(keys, "squares").to(clean.device)

    def _start(self, keys: Sequence[Key], clean: Tensor, eps: Tensor) -> Tensor:
        """Return what the first query tries, (N, C, H, W): here stripes, a column wide."""
        channels, _, width = clean.shape[1:]
        stripes = [key.generator("stripes").choice([-1.0, 1.0], (channels, 1, width)) for key in keys]
        return project(clean + eps * torch.from_numpy(np.stack(stripes)).to(clean), clean, eps)

    def query(self, model: Classifier, rows: Rows) -> Seen:
        with torch.no_grad():
            return Seen(model(rows["x"]))

    def advance(self, rows: Rows, seen: Seen) -> None:
        value = margin_of_answer(seen.logits, rows["label"], rows["target"])
        better = value > rows["best"]
        rows["best"] = torch.where(better, value, rows["best"])
        rows["kept"] = torch.where(better[:, None, None, None], rows["x"], rows["kept"])
        rows["x"] = self._proposed(rows)

    def brings(self, rows: Rows, seen: Seen) -> Tensor:
        return margin_of_answer(seen.logits, rows["label"], rows["target"]) > rows["best"]

    def foreseen(self, rows: Rows) -> Rows:
        return rows | {"x": self._proposed(rows), "t": rows["t"] + 1}

    def _proposed(self, rows: Rows) -> Tensor:
        """Return what query t + 1 tries, (N, C, H, W), from what is kept and from the random numbers of step t."""
        _, channels, height, width = rows["x"].shape
        windows, signs = [], []
        for generator, t in generators(rows["stream"], rows["t"]):
            side = self._side(t, height, width)
            top, left = generator.integers(0, (height - side + 1, width - side + 1))
            window = np.zeros((1, height, width), dtype=bool)
            window[:, top : top + side, left : left + side] = True
            windows.append(window)
            signs.append(generator.choice([-1.0, 1.0], (channels, 1, 1)))
        inside = torch.from_numpy(np.stack(windows)).to(rows["x"].device)  # (N, 1, H, W)
        colour = rows["clean"] + rows["eps"] * torch.from_numpy(np.stack(signs)).to(rows["x"])
        moved = torch.where(inside, colour, rows["kept"])
        return project(moved, rows["clean"], rows["eps"])

    def finished(self, rows: Rows) -> Tensor:
        over = super().finished(rows)
        return over if self.trial is None else over | ((rows["t"] >= self.trial) & ~self._pays(rows))

    def _pays(self, rows: Rows) -> Tensor:
        """Return where to go on after the trial, bool (N,)."""
        start = margin_of_answer(rows["clean_logits"], rows["label"], rows["target"])
        spent = rows["t"].log() / math.log(self.queries)  # the share of all doublings
        due = start * (1 - spent / (spent + HOPE * (1 - spent)))  # from here, the best to be hoped for is 0
        early = rows["t"] < UNDECIDED * self.queries
        return (rows["best"] >= rows["reached"]) & ((rows["best"] >= due) | early)

    def _side(self, t: int, height: int, width: int) -> int:
        """Return the side of the square that query t + 1 tries, in pixels."""
        return max(1, min(round((self._share(t) * height * width) ** 0.5), height - 1, width - 1))

    def _share(self, t: int) -> float:
        """Return the share of the pixels that query t + 1 changes."""
        return self.share / 2 ** sum(t * 10_000 / self.queries > border for border in HALVINGS)

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        return rows["kept"]  # what is proposed last is never looked at
