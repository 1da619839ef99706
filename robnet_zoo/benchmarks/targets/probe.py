"""A look at a target with a few images, before anything is measured: what it gives, and whether its proposer is true.

The proposer of a torch module is compared with its judge, answers and gradients, and the traced form of an ONNX file's
graph with the graph, which was compared with the file when that was opened. One that differs is not used.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from robnet_zoo.attacks import Classifier
from robnet_zoo.benchmarks.targets.output import Logits, not_taken
from robnet_zoo.benchmarks.targets.target import Target, is_narrow, traced_form
from robnet_zoo.errors import RobnetZooError, TargetError
from robnet_zoo.nn.forms.parity import EXACT, HALF, Seen, differences, seen

PROBED = 4  # images
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


def _untrue(proposer: Classifier, shown: Tensor, judged: Seen) -> str:
    """Return in words how a proposer's answers or gradients differ from the judge's, or nothing."""
    proposed, why_not = _seen(proposer, shown)
    form = traced_form(proposer)
    if form is not None and form.why_not:
        return form.why_not
    if proposed is None:
        return why_not
    return differences(proposed, judged, allowed=HALF if is_narrow(proposer) else EXACT)


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


def _seen(classifier: Classifier, shown: Tensor) -> tuple[Seen | None, str]:
    """Return the logits of images and the gradients of a weighted sum of them, or None and the reason."""
    try:
        both = seen(classifier, shown)
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:  # whatever a module of others raises
        error = raised.__cause__ or raised
        return None, f"its gradients cannot be computed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return (None, NO_GRADIENTS) if both[1] is None else (both, "")
