"""DeepFool (Moosavi-Dezfooli et al., 2016): the nearest face of the linearised decision region, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, Cost, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import Norm, project, steepest
from robnet_zoo.attacks.gradient import gradient_of
from robnet_zoo.attacks.losses import is_fooled, likeliest_wrong
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

USUAL_STEPS = 5  # after about this many, the class has changed


class DeepFool(IterativeAttack):
    """DeepFool (Moosavi-Dezfooli et al., 2016): steps onto the nearest linearised boundary until the class changes.

    mode: `projected` projects the result onto the ball of eps, as in tables of robust accuracy; `minimal` leaves it
    as it is, so that its distance is an upper bound of the distance to the boundary. candidates: how many of the
    likeliest wrong classes are looked at; each costs a backward pass a step, as does the label.
    """

    kind: Literal["deepfool"] = "deepfool"
    norm: Norm = "linf"
    steps: Annotated[int, Field(ge=1, le=100_000)] = 50
    overshoot: Annotated[float, Field(ge=0)] = 0.02
    candidates: Annotated[int, Field(ge=1)] = 9
    mode: Literal["projected", "minimal"] = "projected"
    restarts: Literal[1] = 1

    precise: ClassVar[bool] = True

    @property
    def default_name(self) -> str:
        return "deepfool" if self.mode == "projected" else "deepfool_minimal"

    @property
    def ball(self) -> Norm:
        return self.norm

    @property
    def max_steps(self) -> int:
        return self.steps

    def backwards_per_step(self, num_classes: int) -> int:
        return 1 + min(self.candidates, num_classes - 1)

    def usual_cost(self, num_classes: int) -> Cost:
        steps = min(self.steps, USUAL_STEPS)
        return Cost(steps, steps * self.backwards_per_step(num_classes))

    @property
    def early(self) -> bool:
        return False  # it stops by itself where the class changes

    @property
    def minimal(self) -> bool:
        return self.mode == "minimal"

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        rows["x"] = rows["clean"]
        rows["shift"] = torch.zeros_like(rows["clean"])  # without the overshoot
        rows["crossed"] = torch.zeros_like(rows["label"], dtype=torch.bool)
        ranking = likeliest_wrong(rows["clean_logits"], rows["label"])[:, :-1]  # (N, K - 1)
        aimed = (rows["target"] >= 0)[:, None]  # towards a target, that class alone
        rows["ranking"] = torch.where(aimed, rows["target"][:, None], ranking[:, : self.candidates])

    def query(self, model: Classifier, rows: Rows) -> Seen:
        x = rows["x"].detach().requires_grad_()
        classes = torch.cat([rows["label"][:, None], rows["ranking"]], dim=1)  # (N, 1 + M)
        with torch.enable_grad():
            logits = model(x)
            chosen = logits.gather(1, classes).sum(0)  # (1 + M,)
        count = len(chosen)
        gradients = [gradient_of(chosen[i], x, retain_graph=i + 1 < count) for i in range(count)]
        return Seen(logits.detach(), torch.stack(gradients, dim=1), backwards=count)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        rows["crossed"] = rows["crossed"] | is_fooled(seen.logits, rows["label"], rows["target"])
        slopes = seen.gradient[:, 1:] - seen.gradient[:, :1]  # (N, M, C, H, W)
        gaps = seen.logits.gather(1, rows["ranking"]) - seen.logits.gather(1, rows["label"][:, None])  # (N, M)
        flat = slopes.flatten(2)
        dual = flat.abs().sum(2) if self.norm == "linf" else flat.square().sum(2).sqrt()
        distances = (gaps.abs() + 1e-4) / dual.clamp(min=1e-12)  # past the boundary; the authors add it to the distance
        distances = torch.where(dual > 0, distances, torch.inf)
        distance, nearest = distances.min(1)
        slope = slopes[torch.arange(len(slopes), device=slopes.device), nearest]
        step = torch.where(distance.isfinite(), distance, 0)[:, None, None, None] * steepest(slope, self.norm)
        stay = rows["crossed"][:, None, None, None]
        rows["shift"] = torch.where(stay, rows["shift"], rows["shift"] + step)
        moved = (rows["clean"] + (1 + self.overshoot) * rows["shift"]).clamp(0, 1)
        rows["x"] = torch.where(stay, rows["x"], moved)

    def finished(self, rows: Rows) -> Tensor:
        return rows["crossed"] | super().finished(rows)

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        return x if self.minimal else project(x, rows["clean"], rows["eps"], self.norm)
