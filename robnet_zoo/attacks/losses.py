"""Losses that attacks climb: functions of logits (N, K) that are larger where the classifier is more wrong: (N,)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy.module("torch")
    F = lazy.module("torch.nn.functional")


LossName = Literal["cross_entropy", "margin", "dlr"]
Loss = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]  # logits (N, K), labels (N,), targets (N,) or -1 -> (N,)


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of the label, (N,); with a target, log p of the target.

    Args:
        logits: (N, K).
        labels: (N,).
        targets: (N,), -1 for none.
    """
    aimed = targets >= 0
    entropy = F.cross_entropy(logits, torch.where(aimed, targets, labels), reduction="none")
    return torch.where(aimed, -entropy, entropy)


def margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the largest other logit minus the label's, (N,), positive where the classifier is wrong.

    With a target, it is the target's logit minus the largest other one (Carlini and Wagner, 2017).

    Args:
        logits: (N, K).
        labels: (N,).
        targets: (N,), -1 for none.
    """
    chosen = torch.where(targets >= 0, targets, labels)
    difference = largest_other(logits, chosen) - logits.gather(1, chosen[:, None])[:, 0]
    return torch.where(targets >= 0, -difference, difference)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the difference of logits ratio, (N,) (Croce and Hein, 2020, equation 6; with a target, equation 7).

    It is the margin divided by another difference of logits, so that scaling them does not change it.

    Args:
        logits: (N, K), of at least three classes, with a target of four.
        labels: (N,).
        targets: (N,), -1 for none.
    """
    ordered = logits.sort(dim=1, descending=True).values
    label = logits.gather(1, labels[:, None])[:, 0]
    free = largest_other(logits, labels) - label
    free = free / (ordered[:, 0] - ordered[:, 2] + 1e-12)
    if not bool((targets >= 0).any()):
        return free
    target = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    aimed = (target - label) / (ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12)
    return torch.where(targets >= 0, aimed, free)


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which answers name the label, bool (N,); an answer with a logit that is not finite never does.

    Args:
        logits: (N, K).
        labels: (N,).
    """
    return (logits.argmax(1) == labels) & logits.isfinite().all(1)


def is_fooled(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return which answers are a success of an attack, bool (N,): not right or, with a target, the target.

    Args:
        logits: (N, K).
        labels: (N,).
        targets: (N,), -1 for none.
    """
    return torch.where(targets >= 0, is_right(logits, targets), ~is_right(logits, labels))


def margin_of_answer(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return `margin`, (N,); infinity for an answer that is not finite, as that is wrong; with a target, -infinity.

    It is for comparisons, and not a loss: it has no gradient there.

    Args:
        logits: (N, K).
        labels: (N,).
        targets: (N,), -1 for none.
    """
    broken = torch.where(targets >= 0, -torch.inf, torch.inf).to(logits)
    return torch.where(logits.isfinite().all(1), margin(logits, labels, targets), broken)


def largest_other(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest logit other than the label's: (N, K), (N,) -> (N,)."""
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def likeliest_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Return all classes, the likeliest wrong one first and the label last: (N, K), (N,) -> (N, K)."""
    wrong = logits.scatter(1, labels[:, None], -torch.inf)
    return wrong.argsort(dim=1, descending=True, stable=True)


LOSSES: Mapping[str, Loss] = MappingProxyType({"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr})
