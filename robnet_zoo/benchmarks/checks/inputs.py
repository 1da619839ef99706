"""Signs that a model wants its images in another form, or its labels in another order, than it is given them.

Normalisation that was forgotten, or put in twice, is the mistake that most threads about a wrong accuracy end with.
Each form is tried on a few images: one that the model gets right far more often is what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from robnet_zoo.attacks import Classifier
from robnet_zoo.attacks.continuous_batching import in_full_batch
from robnet_zoo.benchmarks.result import Alarm
from robnet_zoo.benchmarks.targets.target import Normalisation, Target
from robnet_zoo.core.statistics import compare, wilson
from robnet_zoo.core.units import LEVELS
from robnet_zoo.data import Images
from robnet_zoo.errors import RobnetZooError

LOOKED_AT = (100, 400)  # images, spread over the whole set, which may be sorted; more of them where few do not tell
FAR_MORE = 0.1  # of the images that another form has to gain
PROMISING = 0.05  # of few images, to be tried on more of them
CHANCE = 1e-3  # p of McNemar's exact test, as ten forms are tried
AS_IT_IS = Normalisation((0.0,), (1.0,))
USUAL = MappingProxyType(
    {
        "CIFAR-10": Normalisation((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
        "ImageNet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "images in [-1, 1]": Normalisation((0.5,), (0.5,)),
        "images in [0, 255]": Normalisation((0.0,), (1 / LEVELS,)),
    }
)
"""What models are trained with, besides images in [0, 1] and the statistics of their own data."""


@dataclass(frozen=True, eq=False)
class _Look:
    """What a model answers to images in some form."""

    alarm: str
    form: str  # in words, with the flags to give if there are any
    answers: Tensor  # (N,), -1 where they are not finite
    labels: Tensor  # (N,)

    @property
    def name(self) -> str:
        """Return the form without its flags, of which those of the data itself depend on the images."""
        return self.form.partition(":")[0]

    @property
    def right(self) -> list[int]:
        """Return 1 for each answer that is the label, else 0."""
        return (self.answers == self.labels).int().tolist()

    def gain(self, given: _Look) -> float:
        """Return the share of the images that are right in this form and not in the given one, less the reverse."""
        return (sum(self.right) - sum(given.right)) / len(self.labels)

    @property
    def beats_chance(self) -> bool:
        """Return whether more answers are right than would be if the same answers met the same labels shuffled."""
        n, classes = len(self.labels), int(max(self.answers.max(), self.labels.max())) + 1
        given = torch.bincount(self.answers[self.answers >= 0], minlength=classes).double()
        chance = float(given @ torch.bincount(self.labels, minlength=classes).double()) / n**2
        return wilson(sum(self.right), n).low > chance


def from_inputs(target: Target, images: Images, *, batch: int) -> list[Alarm]:
    """Return an alarm if a target would be right far more often with images or labels in another form.

    The forms are the usual normalisations, that of timm's configuration of the model and that of the data itself, none
    where the target has one, levels from 0 to 255, channels in the order blue, green, red, and labels that are counted
    from another class on. The best of them is named, with both accuracies. The fast form of a torch module says which
    forms are promising, and the module itself counts.

    Args:
        target: is asked for its answers alone, and so is its proposer.
        images: a few of them, spread over all, are shown to the target. More of them than are attacked cost little.
        batch: how many at once, in batches that are always full.
    """
    wanted: set[str] | None = None
    for count in dict.fromkeys(min(count, len(images)) for count in LOOKED_AT):
        pixels, labels = images.batch(torch.arange(count) * len(images) // count)
        if labels.min() < 0:
            return []
        given = _Look("", "", _answers(target, target.judge, pixels, batch), labels)
        if sum(given.right) > (1 - FAR_MORE) * count:
            return []
        looks = [_shifted(given, target.num_classes), *_others(target, pixels, given, batch, wanted=wanted)]
        gains = {look: look.gain(given) for look in looks if look.beats_chance}
        best = max(gains, key=gains.__getitem__, default=given)
        if gains.get(best, 0) > FAR_MORE and compare(best.right, given.right).p < CHANCE:
            counts = f"{sum(given.right)} of {count} images are right as they are given, {sum(best.right)}"
            return [Alarm(name=best.alarm, text=f"{counts} with {best.form}")]
        wanted = {look.name for look, gain in gains.items() if gain > PROMISING}
        if not wanted:
            return []
    return []


def _shifted(given: _Look, num_classes: int | None) -> _Look:
    """Return the same answers beside labels that are counted from another class on, that in which most are right.

    num_classes: of the target; if that is not known, as many as are seen.
    """
    answers, labels = given.answers, given.labels
    classes = max(int(max(answers.max(), labels.max())) + 1, num_classes or 0)
    apart = (answers - labels).where(answers >= 0, 0) % classes
    shift = int(torch.bincount(apart, minlength=2)[1:].argmax()) + 1
    words = f"{shift} added to each label" if shift <= classes // 2 else f"{classes - shift} taken from each label"
    form = f"{words}, modulo {classes}: the classes are in another order"
    return _Look("label_order", form, answers, (labels + shift) % classes)


def _others(
    target: Target, pixels: Tensor, given: _Look, batch: int, *, wanted: Set[str] | None = None
) -> Iterator[_Look]:
    """Yield what a target, or its proposer if that is not promising, answers to images in each other form it takes.

    Args:
        target: is asked.
        pixels: (N, C, H, W), as they are given.
        given: what the target answers to them.
        batch: how many images at once.
        wanted: the names of the forms to try, by default all.
    """
    channels = pixels.shape[1]
    own = Normalisation(target.identity.mean or (0.0,), target.identity.std or (1.0,)).for_channels(channels)
    tried = {own}
    forms: list[tuple[str, str, Tensor]] = []
    for name, normalisation in _normalisations(target, pixels):
        if len(normalisation.mean) in (1, channels) and (full := normalisation.for_channels(channels)) not in tried:
            tried.add(full)
            inner = (pixels - _wide(full.mean)) / _wide(full.std)  # what the model itself is to see
            forms.append(("normalisation", f"{name}: {_flags(full)}", inner * _wide(own.std) + _wide(own.mean)))
    if channels == 3:
        words = "channels in the order blue, green, red: the model wants them so"
        forms.append(("channel_order", words, pixels.flip(1)))
    of_module = target.identity.kind == "torch"  # a file is faster than its graph in torch
    quick = target.proposer if of_module and target.proposer is not None else target.judge
    for alarm, form, shown in forms:
        if wanted is not None and form.partition(":")[0] not in wanted:
            continue
        try:
            look = _Look(alarm, form, _answers(target, quick, shown, batch), given.labels)
            if quick is not target.judge and look.gain(given) > PROMISING:
                look = replace(look, answers=_answers(target, target.judge, shown, batch))
        except RobnetZooError:  # a model that refuses such images was not trained on them
            continue
        yield look


def _normalisations(target: Target, pixels: Tensor) -> Iterator[tuple[str, Normalisation]]:
    """Yield what a model may have been trained with, in words and numbers."""
    yield "images as they are", AS_IT_IS
    if target.stated is not None:
        yield "the normalisation of timm's configuration", target.stated
    for name, normalisation in USUAL.items():
        yield f"the normalisation of {name}", normalisation
    flat = pixels.transpose(0, 1).flatten(1)  # (C, NHW)
    mean, std = (tuple(round(value, 4) for value in values.tolist()) for values in (flat.mean(1), flat.std(1)))
    if all(std):
        yield "the normalisation of these images", Normalisation(mean, std)


def _flags(normalisation: Normalisation) -> str:
    def numbers(values: Sequence[float]) -> str:
        return " ".join(f"{value:.6g}" for value in (values[:1] if len(set(values)) == 1 else values))

    return f"--mean {numbers(normalisation.mean)} --std {numbers(normalisation.std)}"


def _wide(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]  # (C, 1, 1)


def _answers(target: Target, classifier: Classifier, images: Tensor, batch: int) -> Tensor:
    """Return the class that a classifier of a target gives to each image, (N,), -1 where its answer is not finite."""
    parts = [in_full_batch(classifier, part.to(target.device), batch) for part in images.split(batch)]
    logits = torch.cat(parts).float()
    return logits.argmax(1).where(logits.isfinite().all(1), -1).cpu()
