"""Auto-PGD (Croce and Hein, 2020): PGD with momentum whose step is halved where it no longer helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import Norm, length, project, steepest
from robnet_zoo.attacks.gradient import loss_gradient
from robnet_zoo.attacks.losses import LOSSES, LossName, likeliest_wrong
from robnet_zoo.attacks.random import Key, normal, uniform
from robnet_zoo.core import lazy
from robnet_zoo.errors import AttackError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

MOMENTUM = 0.75  # alpha of algorithm 1


class Apgd(IterativeAttack):
    """Auto-PGD (Croce and Hein, 2020, algorithm 1), whose step is halved where it no longer helps.

    With the paper's checkpoints (section 3.3) and rho = 0.75.
    target_classes: 0 attacks the label; M attacks, in tries of their own, towards each of the M likeliest wrong classes
    of the clean image: with the loss dlr and M = 9 this is APGD-T. Any wrong class is a success.
    """

    kind: Literal["apgd"] = "apgd"
    norm: Norm = "linf"
    loss: LossName = "cross_entropy"
    steps: Annotated[int, Field(ge=2, le=100_000)] = 100
    rho: Annotated[float, Field(gt=0, le=1)] = 0.75
    target_classes: Annotated[int, Field(ge=0)] = 0

    @property
    def default_name(self) -> str:
        short = {"cross_entropy": "ce"}.get(self.loss, self.loss)
        return f"apgd_{short}" if not self.target_classes else f"apgd_{short}_t"

    @property
    def ball(self) -> Norm:
        return self.norm

    @property
    def climbs_margin(self) -> bool:
        return self.loss != "cross_entropy"

    @property
    def max_steps(self) -> int:
        return self.steps

    def check(self, num_classes: int) -> None:
        if self.loss == "dlr" and num_classes < 4:  # with a target, which may be given
            raise AttackError(f"{self.title}: the loss dlr needs 4 classes, got {num_classes}")

    def tries(self, num_classes: int) -> int:
        return self.restarts * max(1, min(self.target_classes, num_classes - 1))

    @property
    def is_random(self) -> bool:
        return True

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        rows["aim"] = rows["target"]
        if self.target_classes:
            ranking = likeliest_wrong(rows["clean_logits"], rows["label"])  # (N, K)
            tries = torch.tensor([key.restart for key in keys], device=ranking.device)
            rank = tries % self.tries(ranking.shape[1]) // self.restarts
            aim = ranking.gather(1, rank[:, None])[:, 0]
            rows["aim"] = torch.where(rows["target"] >= 0, rows["target"], aim)
        set_out(rows, on_sphere(rows, keys, self.norm))

    def query(self, model: Classifier, rows: Rows) -> Seen:
        gradient, logits = loss_gradient(model, rows["x"], LOSSES[self.loss], rows["label"], rows["aim"])
        return Seen(logits, gradient, backwards=1)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        value = LOSSES[self.loss](seen.logits, rows["label"], rows["aim"])
        windows = [checkpoint_windows(self.steps).get(t, 0) for t in rows["t"].tolist()]
        step(rows, seen.gradient, value, norm=self.norm, rho=self.rho, windows=windows)


def on_sphere(rows: Rows, keys: Sequence[Key], norm: Norm) -> Tensor:
    """Return random images at the radius of the ball, where the box lets them be, (N, C, H, W).

    Args:
        rows: of the attack, with `clean` and `eps`.
        keys: of the random numbers, one a row.
        norm: of the ball.
    """
    clean, eps = rows["clean"], rows["eps"]
    draw = uniform if norm == "linf" else normal
    start = draw(keys, clean, "start")
    start = start / length(start, norm)[:, None, None, None].clamp(min=1e-12)
    return project(clean + eps * start, clean, eps, norm)


def set_out(rows: Rows, x: Tensor) -> None:
    """Begin a try from x, (N, C, H, W), with a step of twice the radius."""
    unknown = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
    rows["x"] = rows["x_old"] = rows["x_best"] = x
    rows["gradient_best"] = torch.zeros_like(x)
    rows["step"] = 2 * rows["eps"].clone()
    rows["best"], rows["best_at_check"], rows["last"] = unknown, unknown, unknown
    rows["rises"] = torch.zeros_like(rows["t"])  # since the last checkpoint
    rows["halved"] = torch.ones_like(rows["t"], dtype=torch.bool)  # at the last checkpoint


def step(rows: Rows, gradient: Tensor, value: Tensor, *, norm: Norm, rho: float, windows: Sequence[int]) -> None:
    """Take a step of algorithm 1.

    Args:
        rows: as `set_out` and earlier steps left them.
        gradient: of the loss at `x`, (N, C, H, W).
        value: of the loss there, (N,).
        norm: of the ball.
        rho: the share of the steps since the last checkpoint that have to have raised the loss.
        windows: how many steps those are, for each row that is at a checkpoint; 0 for the others.
    """
    x = rows["x"]
    rows["rises"] = rows["rises"] + ((value > rows["last"]) & (rows["t"] > 0))
    rows["last"] = value
    better = value > rows["best"]
    rows["best"] = torch.where(better, value, rows["best"])
    rows["x_best"] = torch.where(_wide(better), x, rows["x_best"])
    rows["gradient_best"] = torch.where(_wide(better), gradient, rows["gradient_best"])
    rows["best_at_check"] = torch.where(rows["t"] == 0, rows["best"], rows["best_at_check"])
    x, gradient = _checkpoint(rows, x, gradient, rho, torch.tensor(windows, device=x.device))
    share = _wide(torch.where(rows["t"] > 0, MOMENTUM, 1.0)).to(x)
    moved = project(x + rows["step"] * steepest(gradient, norm), rows["clean"], rows["eps"], norm)
    moved = x + share * (moved - x) + (1 - share) * (x - rows["x_old"])
    rows["x_old"] = x  # after a checkpoint, the best point
    rows["x"] = project(moved, rows["clean"], rows["eps"], norm)


def _checkpoint(rows: Rows, x: Tensor, gradient: Tensor, rho: float, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Halve the step and go on from the best point where a checkpoint is reached and progress is poor."""
    at_check = windows > 0
    few_rises = rows["rises"] <= rho * windows
    stuck = ~rows["halved"] & (rows["best_at_check"] >= rows["best"])
    halve = at_check & (few_rises | stuck)
    rows["step"] = torch.where(_wide(halve), rows["step"] / 2, rows["step"])
    rows["halved"] = torch.where(at_check, halve, rows["halved"])
    rows["best_at_check"] = torch.where(at_check, rows["best"], rows["best_at_check"])
    rows["rises"] = torch.where(at_check, 0, rows["rises"])
    return (
        torch.where(_wide(halve), rows["x_best"], x),
        torch.where(_wide(halve), rows["gradient_best"], gradient),
    )


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]  # (N, 1, 1, 1)


@lru_cache(maxsize=16)
def checkpoint_windows(steps: int) -> Mapping[int, int]:
    """Return the checkpoints after which the step may be halved, each with the number of steps since the one before.

    0.22 of all steps, then 0.03 fewer each time, but at least 0.06 (section 3.3).
    """
    window, least, fewer = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    windows, at = {}, 0
    while (at := at + window) <= steps:
        windows[at] = window
        window = max(window - fewer, least)
    return MappingProxyType(windows)
