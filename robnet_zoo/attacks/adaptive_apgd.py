"""Auto-PGD that spends its steps on the class that gives way: short tries at several, a long one at the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robnet_zoo.attacks.apgd import checkpoint_windows, on_sphere, set_out, step
from robnet_zoo.attacks.attack import Classifier, Cost, Count, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import Norm
from robnet_zoo.attacks.gradient import loss_gradient
from robnet_zoo.attacks.losses import Loss, cross_entropy, dlr, likeliest_wrong, margin
from robnet_zoo.attacks.random import Key
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

Steps = Annotated[int, Field(ge=2, le=100_000)]
RHO = 0.75
EXPLORING = 2  # tries at no class in particular


class AdaptiveApgd(IterativeAttack):
    """Auto-PGD (Croce and Hein, 2020) whose short tries decide what the long one does.

    `explore` steps on the cross-entropy and as many on the difference of logits ratio (DLR), at any class; the answers
    where the label's logit lags most rank the other classes. Then `probe` steps of targeted DLR at each of the first
    `classes` of them, and `steps` from the best point at the class that came nearest. Any wrong class is a success.
    With fewer than four classes, for which DLR is not defined, the margin takes its place. A try whose first gradient
    is zero would never move, and ends there.
    """

    kind: Literal["adaptive_apgd"] = "adaptive_apgd"
    norm: Norm = "linf"
    explore: Steps = 15
    probe: Steps = 8
    classes: Count = 5
    steps: Steps = 110

    @property
    def default_name(self) -> str:
        return "adaptive_apgd"

    @property
    def ball(self) -> Norm:
        return self.norm

    @property
    def climbs_margin(self) -> bool:
        return True

    @property
    def is_random(self) -> bool:
        return True

    @property
    def max_steps(self) -> int:
        return max(self.explore, self.probe, self.steps)

    def budgets(self, num_classes: int) -> tuple[int, ...]:
        """Return the steps of each try, of one restart."""
        probes = (self.probe,) * min(self.classes, num_classes - 1)
        return (*(self.explore,) * EXPLORING, *probes, self.steps)

    def tries(self, num_classes: int) -> int:
        return self.restarts * len(self.budgets(num_classes))

    def cost(self, num_classes: int) -> Cost:
        steps = self.restarts * sum(self.budgets(num_classes))
        return Cost(steps, steps)

    def unknown(self, rows: Rows) -> Rows:
        clean = rows["clean"]
        lowest = torch.full((len(clean),), -torch.inf, dtype=clean.dtype, device=clean.device)
        return {
            "seen_gap": lowest,  # of the largest wrong logit over the label's, in the exploring tries
            "seen_logits": rows["clean_logits"],  # (N, K), where that was
            "near_gap": lowest,  # of the logit of a probed class over the label's
            "near_class": rows["target"],  # (N,), the class
            "near_x": clean,  # (N, C, H, W), where that was
        }

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        logits = rows["seen_logits"]
        budgets = self.budgets(logits.shape[1])
        tries = torch.tensor([key.restart % len(budgets) for key in keys], device=logits.device)
        rows["try"], rows["budget"] = tries, torch.tensor(budgets, device=logits.device)[tries]
        ranking = likeliest_wrong(logits, rows["label"])  # (N, K)
        probed = ranking.gather(1, (tries - EXPLORING).clamp(0, logits.shape[1] - 2)[:, None])[:, 0]
        last = tries == len(budgets) - 1
        aim = torch.where(last, rows["near_class"], torch.where(tries < EXPLORING, -1, probed))
        rows["aim"] = torch.where(rows["target"] >= 0, rows["target"], aim)
        start = torch.where(last[:, None, None, None], rows["near_x"], on_sphere(rows, keys, self.norm))
        rows["gap"] = torch.full_like(rows["seen_gap"], -torch.inf)
        rows["gap_x"], rows["gap_logits"] = start, logits
        set_out(rows, start)

    def query(self, model: Classifier, rows: Rows) -> Seen:
        gradient, logits = loss_gradient(model, rows["x"], _loss(rows), rows["label"], rows["aim"])
        return Seen(logits, gradient, backwards=1)

    def advance(self, rows: Rows, seen: Seen) -> None:
        assert seen.gradient is not None
        logits, label, aim = seen.logits, rows["label"], rows["aim"]
        free = margin(logits, label, torch.full_like(aim, -1))
        aimed = (logits.gather(1, aim.clamp(min=0)[:, None]) - logits.gather(1, label[:, None]))[:, 0]
        gap = torch.where(aim >= 0, aimed, free)
        higher = gap > rows["gap"]
        rows["gap"] = torch.where(higher, gap, rows["gap"])
        rows["gap_x"] = torch.where(higher[:, None, None, None], rows["x"], rows["gap_x"])
        rows["gap_logits"] = torch.where(higher[:, None], logits, rows["gap_logits"])
        hopeless = (rows["t"] == 0) & (seen.gradient == 0).flatten(1).all(1)
        rows["budget"] = torch.where(hopeless, 1, rows["budget"])
        windows = [
            checkpoint_windows(budget).get(t, 0)
            for budget, t in zip(rows["budget"].tolist(), rows["t"].tolist(), strict=True)
        ]
        step(rows, seen.gradient, _loss(rows)(logits, label, aim), norm=self.norm, rho=RHO, windows=windows)

    def finished(self, rows: Rows) -> Tensor:
        return rows["t"] >= rows["budget"]

    def learnt(self, rows: Rows) -> Rows:
        explored = (rows["try"] < EXPLORING) & (rows["gap"] > rows["seen_gap"])
        last = len(self.budgets(rows["seen_logits"].shape[1])) - 1  # is at one class, longer than any probe
        probed = (rows["try"] >= EXPLORING) & (rows["try"] < last) & (rows["gap"] > rows["near_gap"])
        return {
            "seen_gap": torch.where(explored, rows["gap"], rows["seen_gap"]),
            "seen_logits": torch.where(explored[:, None], rows["gap_logits"], rows["seen_logits"]),
            "near_gap": torch.where(probed, rows["gap"], rows["near_gap"]),
            "near_class": torch.where(probed, rows["aim"], rows["near_class"]),
            "near_x": torch.where(probed[:, None, None, None], rows["gap_x"], rows["near_x"]),
        }


def _loss(rows: Rows) -> Loss:
    """Return the loss of these rows: the cross-entropy in the first try, then DLR."""
    first = rows["try"] == 0

    def loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        ratio = dlr if logits.shape[1] > 3 else margin
        return torch.where(first, cross_entropy(logits, labels, targets), ratio(logits, labels, targets))

    return loss
