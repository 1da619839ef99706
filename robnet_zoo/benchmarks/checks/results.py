"""Signs that a figure may not be what it seems: gradients that mislead, a model that is no fixed function, wrong data.

An alarm is no verdict. It says in one line what was seen, with the figures, and the result it stands in is kept.
The signs of gradients that mislead are those of Athalye et al. (2018, section 3.1), others are AutoAttack's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from robnet_zoo.attacks import Attack, Fgsm
from robnet_zoo.attacks.gradient import IteratedGradientAttack
from robnet_zoo.benchmarks.checks.target import from_target
from robnet_zoo.benchmarks.result import Alarm, Measurement, Result
from robnet_zoo.core.statistics import compare

__all__ = ["ALARMS", "from_result", "from_results", "from_target"]

ALARMS: Mapping[str, str] = MappingProxyType(
    {
        "square_beats_gradient": "Square, which sees answers alone, is stronger than the gradient attacks together.",
        "transfer_beats_white_box": "Images found on another model fool this one more often than its own gradients do.",
        "fgsm_beats_pgd": "One step is stronger than many.",
        "more_steps_less_success": "PGD with more steps, and nothing else changed, leaves more images right.",
        "robust_at_half": "Images stay right at eps 1/2, where each of them can become plain grey.",
        "zero_gradients": "The input gradient of some images is exactly zero or not finite: attacks get no direction.",
        "saturated_logits": "A logit leads by so much that float32 rounds the other classes' probabilities to zero.",
        "probabilities": "The outputs are probabilities, not logits: losses on them saturate.",
        "nan_logits": "Some logits are not finite, and no attack can succeed on such an answer.",
        "random_outputs": "The same images got different answers twice: each figure is one draw of many.",
        "batch_dependent": "An image's logits depend on the other images of its batch.",
        "mode_dependent": "The model answers otherwise in training mode, and that is how it was handed over or stays.",
        "unconfirmed": "Successes are claimed that the original does not confirm, or outside the ball or the box.",
        "inputs_outside": "Images leave [0, 1], so eps means something else than it says.",
        "labels_out_of_range": "Labels name classes that the model does not have.",
        "unused_classes": "No label names an upper class of the model, as if it were made for other data.",
        "trained_on_test": "The model was trained on images that it is measured on.",
    }
)
"""Every alarm, with what it means."""

GAIN = 0.002  # of the images: AutoAttack's 0.2 points, beyond which a weaker attack that wins is a flag
LOSS_GAIN = 0.1  # the same where only the weaker attack climbs a margin, which alone wins points on honest models
CHANCE = 0.05  # p of McNemar's test above which one gradient attack has not beaten another
UNCONFIRMED = 0.05  # of the images that the form that proposes claims

Measured = list[tuple[Attack, Measurement]]


def from_result(result: Result) -> list[Alarm]:
    """What the outcomes of one document show; one that is not complete shows nothing yet.

    The alarms about gradients are a white box's: attacks through a source may well grow weaker with every step.
    """
    if not result.complete:
        return []
    found = list(_of_unconfirmed(result))
    if result.protocol.threat == "white_box":
        measured = _measured(result)
        found += [*_of_square(measured), *_of_autoattack(measured), *_of_fgsm(result, measured), *_of_steps(measured)]
    return found


def from_results(results: Sequence[Result]) -> list[Alarm]:
    """What documents show together that no one of them shows: those of one model on the same images with the same eps.

    Other models, images, shards and radii may be among them; they are kept apart.
    """
    groups: defaultdict[tuple[object, ...], list[Result]] = defaultdict(list)
    for result in results:
        if result.complete:
            key = (result.model.weights, result.data.sha256, result.protocol.eps_value, result.shard)
            groups[key].append(result)
    return [alarm for group in groups.values() for alarm in _of_group(group)]


def _measured(result: Result) -> Measured:
    """The attacks of a document, each with its outcomes."""
    attacks = {attack.title: attack for attack in result.protocol.attacks}
    return [(attacks[found.attack], found) for found in result.measurements if found.attack in attacks]


def _together(measured: Measured) -> list[int]:
    """1 for each image that all of these left right."""
    return [min(column) for column in zip(*(found.correct for _, found in measured), strict=True)]


def _excess(weak: tuple[Attack, Measurement], strong: Measured) -> str | None:
    """What to say if the attack that should be weaker beats the others together, in the same ball; None if it does not.

    On honest models a margin finds several points more than the cross-entropy does: less than 10 of them count for
    nothing if only the weaker attack climbs one.
    """
    attack, found = weak
    strong = [pair for pair in strong if pair[0].ball == attack.ball]
    if not strong:
        return None
    right = _together(strong)
    alike = not attack.climbs_margin
    allowed = GAIN if alike or any(other.climbs_margin for other, _ in strong) else LOSS_GAIN
    paired = compare(right, found.correct)  # first: images that only the weaker attack fools
    chance = alike and paired.p > CHANCE
    if paired.first - paired.second <= allowed * len(right) or chance:
        return None
    return (
        f"{attack.title} leaves {found.accuracy:.1%} right, {', '.join(other.title for other, _ in strong)} "
        f"{sum(right) / len(right):.1%}: of {len(right)} images it alone fools {paired.first}, they alone "
        f"{paired.second}"
    )


def _of_square(measured: Measured) -> Iterator[Alarm]:
    gradients = [pair for pair in measured if not pair[0].gradient_free]
    for pair in measured:
        if pair[0].gradient_free and (text := _excess(pair, gradients)):
            yield Alarm(name="square_beats_gradient", text=text)


def _of_autoattack(measured: Measured) -> Iterator[Alarm]:
    """AutoAttack's Square sees only what its other parts left: whatever it fools, it alone fools."""
    for attack, found in measured:
        if "square_gains" in found.flags:
            alone = sum(part == "square" for part in found.broken_by)
            others = ", ".join(part for part in attack.components if part != "square")
            text = f"in {attack.title}, square alone fools {alone} of {len(found.correct)} images that {others} left"
            yield Alarm(name="square_beats_gradient", text=text)


def _of_fgsm(result: Result, measured: Measured) -> Iterator[Alarm]:
    """FGSM against the best of the iterated attacks on the same loss that can cross the ball."""
    eps = result.protocol.eps_value
    for attack, found in measured:
        if not isinstance(attack, Fgsm):
            continue
        iterated = [
            (other, outcomes)
            for other, outcomes in measured
            if isinstance(other, IteratedGradientAttack)
            and (other.loss, other.ball) == (attack.loss, attack.ball)
            and other.reach >= eps
        ]
        best = min(iterated, key=lambda pair: pair[1].accuracy, default=None)
        if best is not None and (text := _excess((attack, found), [best])):
            yield Alarm(name="fgsm_beats_pgd", text=text)


def _of_steps(measured: Measured) -> Iterator[Alarm]:
    """From one number of steps to the next larger one; nothing else differs, the random start included."""
    families: defaultdict[str, dict[int, tuple[Attack, Measurement]]] = defaultdict(dict)
    for attack, found in measured:
        if (family := attack.steps_family) is not None:
            families[family.key][family.steps] = (attack, found)
    for lengths in families.values():
        for fewer, more in pairwise(sorted(lengths)):
            if text := _excess(lengths[fewer], [lengths[more]]):
                yield Alarm(name="more_steps_less_success", text=text)


def _of_unconfirmed(result: Result) -> Iterator[Alarm]:
    """Of the images that a success was claimed of, wrong ones left out, those of which none was ever confirmed."""
    clean = next((found.correct for found in result.measurements if found.attack == "clean"), None)
    for found in result.measurements:
        if not any(found.unconfirmed):
            continue
        before = clean or (1,) * len(found.correct)
        rows = list(zip(before, found.correct, found.unconfirmed, strict=True))
        confirmed = sum(was == 1 and right == 0 for was, right, _ in rows)
        refused = sum(right == 1 and claims > 0 for _, right, claims in rows)
        if refused > UNCONFIRMED * (confirmed + refused):
            text = f"{found.attack}: of {confirmed + refused} images claimed, {refused} were never confirmed"
            yield Alarm(name="unconfirmed", text=f"{text} ({sum(found.unconfirmed)} claims)")


def _of_group(group: Sequence[Result]) -> Iterator[Alarm]:
    """Documents of one model: what another model's images, or another document's Square, find beyond its gradients."""
    white = [result for result in group if result.protocol.threat == "white_box"]
    gradients = [pair for result in white for pair in _measured(result) if not pair[0].gradient_free]
    for result in group:
        transfer = result.protocol.threat == "transfer"
        if transfer and result.source is not None and result.source.weights == result.model.weights:
            continue  # attacked through itself
        for pair in _measured(result):
            alone = all(other.gradient_free for other, _ in _measured(result))
            if not (transfer or alone) or not (text := _excess(pair, gradients)):
                continue
            through = f" through {result.source.name}" if transfer and result.source is not None else ""
            name = "transfer_beats_white_box" if transfer else "square_beats_gradient"
            yield Alarm(name=name, text=f"{result.model.name}{through}: {text}")
