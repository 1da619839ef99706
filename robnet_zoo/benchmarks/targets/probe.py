"""A look at a target with a few images, before anything is measured: what it gives, and whether its proposer is true.

The proposer of a torch module is compared with its judge, answers and gradients, and the traced form of an ONNX file's
graph with the graph, which was compared with the file when that was opened. One that differs is not used.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from robnet_zoo.attacks import Classifier
from robnet_zoo.attacks.gradient import gradient_of
from robnet_zoo.benchmarks.targets.output import Logits, not_taken
from robnet_zoo.benchmarks.targets.target import Target, is_narrow, traced_form
from robnet_zoo.errors import AttackError, RobnetZooError, TargetError

PROBED = 4  # images
# Of the logits and of the gradients: the largest difference from the judge's, in the size of the latter. The first is
# for float32, where TensorFloat-32 may be on; the second for bfloat16, whose steps are 1/256.
EXACT, HALF = (1e-2, 0.2), (0.2, 0.8)
NO_GRADIENTS = "its logits do not depend on the images by operations that have gradients"


def probed(target: Target, images: Tensor, *, fine: bool = False) -> Target:
    """Return a target with what a look at it shows: without a proposer, or with its judge as one, where it must be.

    Args:
        target: a target that was looked at before is returned as it is.
        images: (N, C, H, W) in [0, 1]; the first few are shown to it.
        fine: whether attacks will follow changes that bfloat16 rounds away, so that a form in float32 is worth while.

    Raises: TargetError if it does not take the images, or gives anything but logits.
    """
    if target.probed or not len(images):
        return target
    shown = images[:PROBED].to(target.device)
    devices = [shown.device] if shown.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # a model may draw from torch's own generators
        torch.manual_seed(0)
        return _compared(target, shown, fine=fine)


def _compared(target: Target, shown: Tensor, *, fine: bool) -> Target:
    target = replace(target, probed=True, output=_output(target, shown))
    if target.proposer is None:
        return target
    form = traced_form(target.proposer)
    if target.identity.kind == "torch":
        original = target.judge
    elif form is not None:
        original = form.classifier
    else:
        return target
    judged, why_not = _seen(original, shown)
    if judged is None:  # a proposer that has gradients is of another function
        return replace(target, proposer=None, why_not=why_not)
    if target.proposer is original:
        return target
    if why_not := _untrue(target.proposer, shown, judged):
        return replace(target, proposer=original, why_not=f"its fast form is not used: {why_not}")
    if not fine or target.identity.kind != "torch":
        return target
    exact = target.proposing_in("float32").proposer
    if exact is None or exact is target.proposer:
        return target
    return target if _untrue(exact, shown, judged) else replace(target, fine=exact)


def _untrue(proposer: Classifier, shown: Tensor, judged: tuple[Tensor, Tensor]) -> str:
    """Return in words how a proposer's answers or gradients differ from the judge's, or nothing."""
    proposed, why_not = _seen(proposer, shown)
    form = traced_form(proposer)
    if form is not None and form.why_not:
        return form.why_not
    return why_not if proposed is None else _differences(proposed, judged, half=is_narrow(proposer))


def _output(target: Target, shown: Tensor) -> str:
    """Return in words what of the target's output counts as logits, if it gives more than them."""
    try:
        with torch.no_grad():
            if isinstance(target.judge, Logits):
                return target.judge.choice(shown).words
            logits = target.judge(shown)
    except (RobnetZooError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a module of others raises
        raise not_taken(target.name, shown, error) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TargetError(f"{target.name}: expected logits (N, K) with K of 2 or more, got {got}")
    return ""


def _seen(classifier: Classifier, shown: Tensor) -> tuple[tuple[Tensor, Tensor] | None, str]:
    """Return the logits of images and the gradients of a weighted sum of them, or None and the reason."""
    x = shown.clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = classifier(x)
            weights = torch.linspace(1, 2, logits.shape[1]).cos().to(logits)  # (K,), all different
            total = (logits * weights).sum()
        return (logits.detach(), gradient_of(total, x)), ""
    except torch.OutOfMemoryError:
        raise
    except AttackError:
        return None, NO_GRADIENTS
    except Exception as raised:  # whatever a module of others raises
        error = raised.__cause__ or raised
        return None, f"its gradients cannot be computed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _differences(proposed: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor], *, half: bool) -> str:
    """Return in words how a proposer's logits and gradients differ from the judge's, or nothing.

    An image whose answer is not finite is passed over, where both agree about that.
    """
    for what, own, true, allowed in zip(
        ("logits", "gradients"), proposed, judged, HALF if half else EXACT, strict=True
    ):
        if own.shape != true.shape:
            return f"its {what} are {tuple(own.shape)} instead of {tuple(true.shape)}"
        finite = true.flatten(1).isfinite().all(1)  # (N,)
        away = (own - true).double().flatten(1)[finite].norm(dim=1)
        size = true.double().flatten(1)[finite].norm(dim=1)
        far = ~(away <= allowed * size)  # NaN too
        if bool(far.any()):
            share = float((away / size)[far].nan_to_num(nan=torch.inf).amax())
            return f"its {what} of {int(far.sum())} of {len(true)} images are {share:.2g} of the model's own size away"
    return ""
