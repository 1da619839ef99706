"""Alarms that a few queries of a model and a look at the images raise before any figure is believed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import Classifier, Pgd, run
from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.checks.inputs import from_inputs
from robnet_zoo.benchmarks.result import Alarm
from robnet_zoo.benchmarks.targets.probe import probed
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.data import VALIDATION_SHARE, Images
from robnet_zoo.errors import OnnxFileError

RANDOM = 1e-4  # of the largest logit: AutoAttack's bound between two answers to the same batch
INTEGERS = 1e-4  # of the largest logit: less than this is lost between graphs that round to the same integers
ROUNDING = 1e-3  # of the largest logit: two orders of summation, in TensorFloat-32 too
CHANCE = 1e-6  # the probability that labels drawn from all classes alike are this low
SATURATED = -math.log(torch.finfo(torch.float32).tiny)  # a lead of this many leaves exp(-lead) below the normal numbers
SHOWN = 64  # images
HALF = Pgd(steps=20, step="1/8")  # at eps 1/2 a step is a quarter of eps, as 2/255 is of 8/255


def from_target(
    target: Target,
    images: Images,
    *,
    seed: int,
    batch: int = SHOWN,
    whole: Images | None = None,
) -> list[Alarm]:
    """Return the alarms that a few queries raise; a target without gradients is asked only for its answers.

    Args:
        images: they are measured; the first 64 of them are shown to the target.
        seed: of whatever is random in the queries and in the model.
        batch: how many of them at once; twice as many where each stands beside another image.
        whole: the set whose first images `images` are, if they are not all of it. Images from all of it are shown to
            the target in other forms, so that few measured images are no reason for a form to go unnoticed.
            `Target.training_sha256` recognises this set, with or without its validation images, but no other selection
            from it.
    """
    raised = [*_images(images), *_training(images, whole or images, target.training_sha256)]
    shown, labels = (part.to(target.device) for part in images.batch(slice(SHOWN)))
    batch = min(batch, len(shown))
    target = probed(target, shown)
    raised += _forms(target)
    with _own_randomness(seed, target.device):
        logits, again = _answers(target.judge, shown, batch), _answers(target.judge, shown, batch)
        random = _difference(logits, again)
        raised += [*_logits(logits), *_labels(images, logits.shape[1])]
        if random > RANDOM:
            text = f"two answers to the same {len(shown)} images differ by {random:.2g} of the largest logit"
            raised.append(Alarm(name="random_outputs", text=text))
        else:
            raised += _company(target.judge, shown, logits, batch, seed=seed)
        raised += from_inputs(target, whole or images, batch=batch)
        raised += _otherwise(target, shown, logits, batch)
        beside = "batch_dependent" in {alarm.name for alarm in raised}  # then both must be asked for the same batches
        raised += _rounding(target, shown, 1 if beside else batch)
        if target.module is not None:
            raised += _modes(target.module, shown, batch, compared=random <= RANDOM)
        refused = {"inputs_outside", "labels_out_of_range", "nan_logits"} & {alarm.name for alarm in raised}
        if target.proposer is not None and not refused:
            raised += _gradients(target.proposer, shown, labels, batch)
            raised += _half(target, target.proposer, shown, labels, batch, seed=seed)
    return raised


# Images and labels


def _images(images: Images) -> Iterator[Alarm]:
    extremes = [part.aminmax() for part, _ in images.batches(1024)]
    low = min(float(low) for low, _ in extremes)
    high = max(float(high) for _, high in extremes)
    if not all(low >= 0 and high <= 1 for low, high in extremes):  # NaN too
        yield Alarm(name="inputs_outside", text=f"values from {low:.3g} to {high:.3g} in {len(images)} images")


def _labels(images: Images, classes: int) -> Iterator[Alarm]:
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= classes:
        strange = int(((images.labels < 0) | (images.labels >= classes)).sum())
        text = f"{strange} of {len(images)} labels are not from 0 to {classes - 1}; they go from {low} to {high}"
        yield Alarm(name="labels_out_of_range", text=text)
    elif ((high + 1) / classes) ** len(images) < CHANCE:
        text = f"the model has {classes} classes, and none of {len(images)} labels is above {high}"
        yield Alarm(name="unused_classes", text=text)


def _training(images: Images, whole: Images, training_sha256: str | None) -> Iterator[Alarm]:
    if training_sha256 is None:
        return
    parts = [images, whole, *(whole.split()[:1] if len(whole) >= VALIDATION_SHARE else ())]
    for part in parts:
        if part.sha256 == training_sha256:
            shared = min(len(part), len(images))  # both are the first ones of the whole
            text = f"{shared} of {len(images)} images are among the very ones it was trained on"
            yield Alarm(name="trained_on_test", text=f"{text} ({training_sha256[:12]})")
            return


# Forms and answers


def _forms(target: Target) -> Iterator[Alarm]:
    if target.output:
        yield Alarm(name="output_chosen", text=target.output)
    if target.proposer is not None and target.why_not:
        yield Alarm(name="no_fast_form", text=f"attacks look at the model itself: {target.why_not}")


@torch.no_grad()
def _answers(model: Classifier, images: Tensor, batch: int) -> Tensor:
    pieces = images.split(batch)
    return torch.cat([model(piece).detach().clone() for piece in pieces])  # a model may write to what it gave before


def _difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two answers, as a share of the largest logit; NaN and infinities count as 0."""
    first, second = (logits.double().nan_to_num(0, 0, 0) for logits in (first, second))
    return float((first - second).abs().amax() / first.abs().amax().clamp(min=torch.finfo(torch.float32).tiny))


def _logits(logits: Tensor) -> Iterator[Alarm]:
    """Yield alarms about logits, (N, K), that are not finite, are probabilities or are saturated."""
    n = len(logits)
    broken = n - int(logits.isfinite().all(1).sum())
    if broken:
        yield Alarm(name="nan_logits", text=f"{broken} of {n} images get logits that are not finite")
        return
    if bool(((logits >= 0) & (logits <= 1 + ROUNDING)).all() and ((logits.sum(1) - 1).abs() <= ROUNDING).all()):
        yield Alarm(name="probabilities", text=f"the {logits.shape[1]} outputs of each of {n} images add up to 1")
    if logits.shape[1] > 1:
        first, second = logits.double().topk(2).values.unbind(1)  # (N,), (N,)
        lead = first - second
        saturated = int((lead > SATURATED).sum())
        if saturated:
            leads = f"leads by more than {SATURATED:.0f}, up to {float(lead.amax()):.3g}"
            yield Alarm(name="saturated_logits", text=f"the largest logit of {saturated} of {n} images {leads}")


def _company(judge: Classifier, shown: Tensor, logits: Tensor, batch: int, *, seed: int) -> Iterator[Alarm]:
    """Ask for the same images again, each beside a black image or noise, so that a judge's pieces hold both."""
    company = torch.rand(shown.shape, generator=torch.Generator().manual_seed(seed)).to(shown)
    company[::2] = 0
    among = _answers(judge, torch.stack([company, shown], 1).flatten(0, 1), 2 * batch)[1::2]  # (N, K) of (2N, C, H, W)
    difference = _difference(logits, among)
    if difference > ROUNDING:
        changed = int((among.argmax(1) != logits.argmax(1)).sum())
        text = f"beside other images, logits change by up to {difference:.2g} of the largest"
        text += f", and the class of {changed} of {len(shown)} images"
        yield Alarm(name="batch_dependent", text=text)


def _otherwise(target: Target, shown: Tensor, logits: Tensor, batch: int) -> Iterator[Alarm]:
    """Ask a quantised file for the same images while ONNX Runtime runs it in another way."""
    for name, classifier, how in (
        ("saturating_sums", target.exact, "with sums that cannot saturate"),
        ("optimisation_dependent", target.unoptimised, "without optimisations of its graph"),
    ):
        if classifier is None:
            continue
        try:
            answers = _answers(classifier, shown, batch)
        except OnnxFileError as error:
            if name == "saturating_sums":
                yield Alarm(
                    name=name, text=f"weights use all eight bits; what that changes here is unknown: {error.text}"
                )
            continue
        changed = int((answers.argmax(1) != logits.argmax(1)).sum())
        size = _difference(logits, answers)
        if changed or name == "saturating_sums":
            text = f"{how}, logits change by up to {size:.2g} of the largest on this machine"
            seen = name if changed else "sums_may_saturate"
            yield Alarm(name=seen, text=f"{text}, and the class of {changed} of {len(shown)} images")


def _rounding(target: Target, shown: Tensor, batch: int) -> Iterator[Alarm]:
    """Compare a quantised file with its graph in torch, in which no sum saturates, and which rounds where it does."""
    if target.twin is None or target.proposer is None:
        return
    try:
        logits = _answers(target.exact or target.judge, shown, batch)
    except OnnxFileError:
        logits = _answers(target.judge, shown, batch)
    rebuilt = _answers(target.proposer, shown, batch)
    if (size := _difference(logits, rebuilt)) > INTEGERS:
        changed = int((rebuilt.argmax(1) != logits.argmax(1)).sum())
        text = f"logits of the graph that attacks look at are up to {size:.2g} of the largest away on this machine"
        yield Alarm(name="rounds_otherwise", text=f"{text}, and the class of {changed} of {len(shown)} images differs")


def _modes(module: nn.Module, shown: Tensor, batch: int, *, compared: bool) -> Iterator[Alarm]:
    """Compare the module as it was handed over with itself in eval mode; modes and buffers are restored."""
    modes = {part: part.training for part in module.modules() if hasattr(part, "training")}
    if not any(modes.values()):
        return
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]  # a batch norm in training mode writes to them
    try:
        given = _answers(module, shown, batch)
        for buffer, value in kept:
            buffer.copy_(value)
        module.eval()
        stuck = [
            name or type(part).__name__ for name, part in module.named_modules() if part in modes and part.training
        ]
        settled = _answers(module, shown, batch)
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
        for part, training in modes.items():
            part.training = training
    seen = []
    if compared and (difference := _difference(settled, given)) > ROUNDING:
        changed = int((given.argmax(1) != settled.argmax(1)).sum())
        seen.append(
            f"as handed over, in training mode, logits differ by up to {difference:.2g} of the largest from those in "
            f"eval mode, and the class of {changed} of {len(shown)} images"
        )
    if stuck:
        more = f" and {len(stuck) - 3} more" if len(stuck) > 3 else ""
        seen.append(f"{', '.join(stuck[:3])}{more} of {len(modes)} modules ignore eval()")
    if seen:
        yield Alarm(name="mode_dependent", text="; ".join(seen))


@contextmanager
def _own_randomness(seed: int, device: torch.device | str) -> Iterator[None]:
    """Seed torch's global generators, from which a model may draw, and restore them afterwards."""
    accelerator = torch.device(device)
    devices = [accelerator] if accelerator.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


# Gradients


def _gradients(proposer: Classifier, shown: Tensor, labels: Tensor, batch: int) -> Iterator[Alarm]:
    pieces = zip(shown.split(batch), labels.split(batch), strict=True)
    flat = torch.cat([input_gradient(proposer, *piece)[0].flatten(1) for piece in pieces])  # (N, CHW)
    broken = int((~flat.isfinite().all(1)).sum())
    zero = int((flat == 0).all(1).sum())
    if zero or broken:
        text = f"{(zero + broken) / len(shown):.1%} of {len(shown)} images: {zero} exactly zero, {broken} not finite"
        yield Alarm(name="zero_gradients", text=text)


def _half(
    target: Target, proposer: Classifier, shown: Tensor, labels: Tensor, batch: int, *, seed: int
) -> Iterator[Alarm]:
    outcomes = run(HALF, proposer, shown, labels, eps=0.5, seed=seed, slots=batch, judge=target.judge)
    right = sum(not outcome.fooled for outcome in outcomes)
    if right:
        yield Alarm(name="robust_at_half", text=f"{HALF.title} left {right} of {len(shown)} images right at eps 1/2")
