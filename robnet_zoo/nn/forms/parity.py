"""Whether a form is the function that it stands for: its logits and gradients beside those of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Seen: TypeAlias = tuple[Tensor, Tensor | None]  # logits (N, K) and gradients (N, C, H, W)
# Of the logits and of the gradients: the largest difference, in the size of the other's. The first is for float32,
# where TensorFloat-32 may be on; the second for bfloat16, whose steps are 1/256. A rectifier has another gradient where
# rounding moves what it gets past zero.
EXACT, HALF = (1e-2, 0.2), (0.2, 0.8)


def seen(function: Callable[[Tensor], Tensor], images: Tensor) -> Seen:
    """Return a function's logits of images and the gradients of a weighted sum of them.

    The gradients are None if the logits do not depend on the images by operations that have gradients. Raises whatever
    the function raises, forwards and backwards.
    """
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        logits = function(x)
        if not logits.requires_grad:
            return logits, None
        weights = torch.linspace(1, 2, logits.shape[1]).cos().to(logits)  # (K,), all different
        (gradients,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
    return logits.detach(), gradients


def differences(own: Seen, true: Seen, *, allowed: tuple[float, float]) -> str:
    """Return in words how logits and gradients differ from the true ones, or nothing.

    An image whose answer is not finite is passed over, where both agree about that.

    Args:
        own: those of a form.
        true: those of what it stands for.
        allowed: the largest difference of an image's logits and of its gradients, in the size of the true ones.
    """
    for what, mine, theirs, limit in zip(("logits", "gradients"), own, true, allowed, strict=True):
        if mine is None or theirs is None:
            if mine is not theirs:
                return f"it has {what} where the model has none" if theirs is None else f"it has no {what}"
            continue
        if mine.shape != theirs.shape:
            return f"its {what} are {tuple(mine.shape)} instead of {tuple(theirs.shape)}"
        finite = theirs.flatten(1).isfinite().all(1)  # (N,)
        away = (mine - theirs).double().flatten(1)[finite].norm(dim=1)
        size = theirs.double().flatten(1)[finite].norm(dim=1)
        far = ~(away <= limit * size)  # NaN too
        if bool(far.any()):
            share = float((away / size)[far].nan_to_num(nan=torch.inf).amax())
            return (
                f"its {what} of {int(far.sum())} of {len(theirs)} images are {share:.2g} of the model's own size away"
            )
    return ""
