"""Signs that a figure may not be what it seems: misleading gradients, a model that is not a fixed function, wrong data.

An alarm is not a verdict. It says in one line what was seen, with the figures; the result itself does not change.
The signs of misleading gradients are those of Athalye et al. (2018, section 3.1); others are AutoAttack's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from operator import attrgetter
from types import MappingProxyType

from robnet_zoo.attacks import Attack, Fgsm
from robnet_zoo.attacks.gradient import IteratedGradientAttack
from robnet_zoo.benchmarks.checks.target import from_target
from robnet_zoo.benchmarks.result import Alarm, Measurement, Result, worst_case
from robnet_zoo.core.statistics import compare, wilson

__all__ = [
    "ALARMS",
    "AlarmKind",
    "Severity",
    "by_kind",
    "from_answers",
    "from_result",
    "from_results",
    "from_target",
    "kind_of",
]


class Severity(IntEnum):
    """The weight of an alarm against the figures of its document; the higher, the worse."""

    NOTE = 1  # it merely counts what was seen
    DOUBT = 2  # figures may be too high, or one draw of many
    WRONG = 3  # figures do not mean what they say

    @property
    def word(self) -> str:
        """Return what an alarm of this weight is called where it is told: `note` or `ALARM`."""
        return "note" if self is Severity.NOTE else "ALARM"


@dataclass(frozen=True)
class AlarmKind:
    """The meaning, in one sentence, and the severity of alarms of one name."""

    meaning: str
    severity: Severity


ALARMS: Mapping[str, AlarmKind] = MappingProxyType(
    {
        "trained_on_test": AlarmKind("The model was trained on images that it is measured on.", Severity.WRONG),
        "inputs_outside": AlarmKind("Images leave [0, 1], so eps means something other than it says.", Severity.WRONG),
        "labels_out_of_range": AlarmKind("Labels name classes that the model does not have.", Severity.WRONG),
        "nan_logits": AlarmKind(
            "Some logits are not finite; such an answer counts as wrong, whatever the attack.", Severity.WRONG
        ),
        "chance_level": AlarmKind(
            "Without attack the model is no better than chance: untrained, or given images of another normalisation or "
            "labels of another order.",
            Severity.WRONG,
        ),
        "normalisation": AlarmKind(
            "With another normalisation of its inputs the model is right far more often.", Severity.WRONG
        ),
        "channel_order": AlarmKind(
            "With channels in the order blue, green, red the model is right far more often.", Severity.WRONG
        ),
        "label_order": AlarmKind(
            "With the same number added to every label the model is right far more often.", Severity.WRONG
        ),
        "mode_dependent": AlarmKind(
            "The model was handed over in training mode or stays in it, and answers differently there.", Severity.WRONG
        ),
        "batch_dependent": AlarmKind("An image's logits depend on the other images of its batch.", Severity.WRONG),
        "random_outputs": AlarmKind(
            "The same images got different answers twice: each figure is one draw of many.", Severity.DOUBT
        ),
        "saturating_sums": AlarmKind(
            "Weights use all of eight bits: without VNNI, a processor's sums of them with unsigned bytes saturate: the "
            "file is another function there.",
            Severity.DOUBT,
        ),
        "optimisation_dependent": AlarmKind(
            "The quantised file answers otherwise if ONNX Runtime does not optimise its graph.", Severity.DOUBT
        ),
        "robust_at_half": AlarmKind(
            "Images stay right at eps 1/2, where each of them can become plain grey.", Severity.DOUBT
        ),
        "zero_gradients": AlarmKind(
            "The input gradient of some images is exactly zero or not finite: attacks get no direction.",
            Severity.DOUBT,
        ),
        "square_beats_gradient": AlarmKind(
            "Square, which sees answers alone, is stronger than the gradient attacks, or fools images that they left.",
            Severity.DOUBT,
        ),
        "transfer_beats_white_box": AlarmKind(
            "Images made on another model fool this one more often than its own gradients do.", Severity.DOUBT
        ),
        "cannot_cross_ball": AlarmKind(
            "All steps of an attack together are shorter than eps, so that it cannot come to the border of its ball.",
            Severity.DOUBT,
        ),
        "fgsm_beats_pgd": AlarmKind("One step is stronger than many.", Severity.DOUBT),
        "more_steps_less_success": AlarmKind(
            "PGD with more steps, and nothing else changed, leaves more images right.", Severity.DOUBT
        ),
        "probabilities": AlarmKind(
            "The outputs are probabilities, not logits: losses on them saturate.", Severity.DOUBT
        ),
        "saturated_logits": AlarmKind(
            "A logit leads by so much that float32 rounds the other classes' probabilities to zero.", Severity.DOUBT
        ),
        "unconfirmed": AlarmKind(
            "Successes are claimed that the original does not confirm, or outside the ball or the box.", Severity.NOTE
        ),
        "no_fast_form": AlarmKind(
            "The model has no fast form, or it was changed since its spec was built: attacks look at itself.",
            Severity.NOTE,
        ),
        "output_chosen": AlarmKind(
            "The model gives more than logits, and a part of its output counts as them.", Severity.NOTE
        ),
        "sums_may_saturate": AlarmKind(
            "Weights use all of eight bits, so sums may saturate on a processor without VNNI; here no class changes.",
            Severity.NOTE,
        ),
        "rounds_otherwise": AlarmKind(
            "ONNX Runtime rounds otherwise on this machine than the graph of the quantised file that attacks look at.",
            Severity.NOTE,
        ),
        "unused_classes": AlarmKind(
            "No label names an upper class of the model, as if it were made for other data.", Severity.NOTE
        ),
    }
)
"""Every kind of alarm by its name, worst first."""

GAIN = 0.002  # of the images: AutoAttack's 0.2 points, beyond which a weaker attack that wins is a flag
LOSS_GAIN = 0.1  # the same where only the weaker attack climbs a margin, which alone wins points on honest models
CHANCE = 0.05  # p of McNemar's test above which one gradient attack has not beaten another
ROUNDED = 1e-9  # of eps: what a sum of steps may lose to rounding
UNCONFIRMED = 0.05  # of the images that the form that proposes claims

Outcomes = list[tuple[Attack, Measurement]]  # attacks with their measurements


def kind_of(alarm: Alarm) -> AlarmKind:
    """Return the kind of an alarm. One that this version does not know, from a newer document, counts as a doubt."""
    return ALARMS.get(alarm.name, AlarmKind("", Severity.DOUBT))


def by_kind(alarms: Iterable[Alarm]) -> dict[str, list[Alarm]]:
    """Return alarms grouped by their name, the worst kinds first, each group in the order given."""
    groups: defaultdict[str, list[Alarm]] = defaultdict(list)
    for alarm in alarms:
        groups[alarm.name].append(alarm)
    names = list(ALARMS)

    def rank(name: str) -> tuple[int, int]:
        severity = kind_of(groups[name][0]).severity
        return -severity, names.index(name) if name in names else len(names)

    return {name: groups[name] for name in sorted(groups, key=rank)}


def from_result(result: Result) -> list[Alarm]:
    """Return the alarms that the outcomes of one document raise; a document that is not complete raises none yet.

    Alarms about gradients apply to a white box alone: attacks through a source may well grow weaker with every step.
    """
    if not result.complete:
        return []
    outcomes = _outcomes(result)
    raised = [*_not_finite(result), *_short(result, outcomes), *_unconfirmed(result)]
    if result.protocol.threat == "white_box":
        in_turn = [pair for pair in outcomes if result.protocol.before(pair[0].title)]
        apart = [pair for pair in outcomes if pair not in in_turn]
        raised += [*_square(apart), *_square_in_turn(result, in_turn), *_autoattack(outcomes)]
        raised += [*_fgsm(apart), *_steps(apart)]
    return raised


def from_answers(answers: Sequence[int], labels: Sequence[int], *, classes: int) -> list[Alarm]:
    """Return the alarm of a model whose answers without attack are no better than chance, as far as one can tell.

    Chance is the share that would be right if the same answers met the same labels in another order: 1 / K for balanced
    labels, and all that a constant answer gets right. If all labels are alike, it is 1 / K.

    Args:
        answers: the class of each image by the model, -1 where its answer is not finite.
        labels: of the images.
        classes: K of the model.
    """
    n, given, true = len(labels), Counter(answers), Counter(labels)
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    chance = sum(given[label] * count for label, count in true.items()) / n**2 if len(true) > 1 else 1 / classes
    interval = wilson(right, n)
    if interval.low > chance:
        return []
    text = f"{right} of {n} images are right without attack, {right / n:.1%} ({interval:.1%}); by chance {chance:.1%}"
    return [Alarm(name="chance_level", text=f"{text} would be")]


def from_results(results: Sequence[Result]) -> list[Alarm]:
    """Return the alarms that documents raise only together: those of one model on the same images with the same eps.

    Documents of other models, images, shards and radii may be among them; they are compared apart.
    """
    groups: defaultdict[tuple[object, ...], list[Result]] = defaultdict(list)
    for result in results:
        if result.complete:
            key = (result.model.weights, result.data.sha256, result.protocol.eps_value, result.shard)
            groups[key].append(result)
    return [alarm for group in groups.values() for alarm in _group(group)]


def _outcomes(result: Result) -> Outcomes:
    """Return the attacks of a document, each with its measurement."""
    attacks = {attack.title: attack for attack in result.protocol.attacks}
    return [(attacks[item.attack], item) for item in result.measurements if item.attack in attacks]


def _excess(weak: tuple[Attack, Measurement], strong: Outcomes) -> str | None:
    """Return what to say if the attack that should be weaker beats the others together in the same ball, else None.

    On honest models an attack that climbs a margin fools several points more images than one that climbs the
    cross-entropy. So if only the weaker attack climbs a margin, less than 10 points raise no alarm.
    """
    attack, measured = weak
    strong = [pair for pair in strong if pair[0].ball == attack.ball]
    if not strong:
        return None
    right = worst_case([measured for _, measured in strong]).correct
    alike = not attack.climbs_margin
    allowed = GAIN if alike or any(other.climbs_margin for other, _ in strong) else LOSS_GAIN
    paired = compare(right, measured.correct)  # first: images that only the weaker attack fools
    chance = alike and paired.p > CHANCE
    if paired.first - paired.second <= allowed * len(right) or chance:
        return None
    return (
        f"{attack.title} leaves {measured.accuracy:.1%} right, {', '.join(other.title for other, _ in strong)} "
        f"{sum(right) / len(right):.1%}: of {len(right)} images it alone fools {paired.first}, they alone "
        f"{paired.second}"
    )


def _square(outcomes: Outcomes) -> Iterator[Alarm]:
    gradients = [pair for pair in outcomes if not pair[0].gradient_free]
    for pair in outcomes:
        if pair[0].gradient_free and (text := _excess(pair, gradients)):
            yield Alarm(name="square_beats_gradient", text=text)


def _square_in_turn(result: Result, outcomes: Outcomes) -> Iterator[Alarm]:
    """Yield an alarm where Square fools more of what other attacks left than AutoAttack lets pass without a flag."""
    for attack, measured in outcomes:
        before = result.protocol.before(attack.title)
        left = sum(result.measurement(before[-1]).correct)
        alone, n = left - sum(measured.correct), len(measured.correct)
        if attack.gradient_free and alone > GAIN * n:
            text = f"{attack.title} fools {alone} of the {left} images that {', '.join(before)} left, of {n}"
            yield Alarm(name="square_beats_gradient", text=text)


def _autoattack(outcomes: Outcomes) -> Iterator[Alarm]:
    """Yield an alarm where AutoAttack's Square, which sees only what its other parts left, fools an image."""
    for attack, measured in outcomes:
        if "square_gains" in measured.flags:
            alone = sum(part == "square" for part in measured.broken_by)
            others = ", ".join(part for part in attack.components if part != "square")
            text = f"in {attack.title}, square alone fools {alone} of {len(measured.correct)} images that {others} left"
            yield Alarm(name="square_beats_gradient", text=text)


def _fgsm(outcomes: Outcomes) -> Iterator[Alarm]:
    """Compare FGSM with the best of the iterated attacks on the same loss."""
    for attack, measured in outcomes:
        if not isinstance(attack, Fgsm):
            continue
        iterated = [
            (other, iterated_measured)
            for other, iterated_measured in outcomes
            if isinstance(other, IteratedGradientAttack) and (other.loss, other.ball) == (attack.loss, attack.ball)
        ]
        best = min(iterated, key=lambda pair: pair[1].accuracy, default=None)
        if best is not None and (text := _excess((attack, measured), [best])):
            yield Alarm(name="fgsm_beats_pgd", text=text)


def _steps(outcomes: Outcomes) -> Iterator[Alarm]:
    """Compare each number of steps with the next larger one; nothing else differs, not even the random start."""
    families: defaultdict[str, dict[int, tuple[Attack, Measurement]]] = defaultdict(dict)
    for attack, measured in outcomes:
        if (family := attack.steps_family) is not None:
            families[family.key][family.steps] = (attack, measured)
    for lengths in families.values():
        for fewer, more in pairwise(sorted(lengths)):
            if text := _excess(lengths[fewer], [lengths[more]]):
                yield Alarm(name="more_steps_less_success", text=text)


def _short(result: Result, outcomes: Outcomes) -> Iterator[Alarm]:
    """Yield an alarm for each attack that cannot cross the ball, unless more of the same steps can in this document."""
    eps = result.protocol.eps_value
    longest: dict[str, Attack] = {}
    for attack, _ in outcomes:
        key = attack.title if (family := attack.steps_family) is None else family.key
        longest[key] = max(longest.get(key, attack), attack, key=attrgetter("reach"))
    for attack in longest.values():
        if attack.reach < eps * (1 - ROUNDED):
            text = f"the steps of {attack.title} add up to {attack.reach:.3g}, which is less than eps, {eps:.3g}"
            yield Alarm(name="cannot_cross_ball", text=text)


def _not_finite(result: Result) -> Iterator[Alarm]:
    """Count the images with an answer that is not finite, clean or attacked; their margins are null."""
    broken = {
        measured.attack: {sample for sample, value in enumerate(measured.margins) if value is None}
        for measured in result.measurements
    }
    images = set().union(*broken.values())
    if images:
        where = ", ".join(f"{len(samples)} under {attack}" for attack, samples in broken.items() if samples)
        where = where.replace("under clean", "clean")
        text = f"{len(images)} of {len(result.measurements[0].correct)} images get logits that are not finite: {where}"
        yield Alarm(name="nan_logits", text=text)


def _unconfirmed(result: Result) -> Iterator[Alarm]:
    """Count the images, right without attack, whose claimed successes were never confirmed."""
    clean = next((measured.correct for measured in result.measurements if measured.attack == "clean"), None)
    for measured in result.measurements:
        if not any(measured.unconfirmed):
            continue
        before = clean or (1,) * len(measured.correct)
        rows = list(zip(before, measured.correct, measured.unconfirmed, strict=True))
        confirmed = sum(was == 1 and right == 0 for was, right, _ in rows)
        refused = sum(right == 1 and claims > 0 for _, right, claims in rows)
        if refused > UNCONFIRMED * (confirmed + refused):
            text = f"{measured.attack}: of {confirmed + refused} images claimed, {refused} were never confirmed"
            yield Alarm(name="unconfirmed", text=f"{text} ({sum(measured.unconfirmed)} claims)")


def _group(group: Sequence[Result]) -> Iterator[Alarm]:
    """Compare, in documents of one model, images of other models and attacks without gradients with its gradients."""
    white = [result for result in group if result.protocol.threat == "white_box"]
    gradients = [pair for result in white for pair in _outcomes(result) if not pair[0].gradient_free]
    for result in group:
        transfer = result.protocol.threat == "transfer"
        if transfer and result.source is not None and result.source.weights == result.model.weights:
            continue  # attacked through itself
        for pair in _outcomes(result):
            alone = all(other.gradient_free for other, _ in _outcomes(result))
            if not (transfer or alone) or not (text := _excess(pair, gradients)):
                continue
            through = f" through {result.source.name}" if transfer and result.source is not None else ""
            name = "transfer_beats_white_box" if transfer else "square_beats_gradient"
            yield Alarm(name=name, text=f"{result.model.name}{through}: {text}")
