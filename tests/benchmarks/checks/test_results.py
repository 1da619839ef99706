"""Alarms: each is raised by a model or by data made to raise it, and honest models raise none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Apgd, AutoAttack, Bim, Fgsm, MiFgsm, Pgd, Square
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.checks.results import ALARMS, Severity, by_kind, from_answers, from_result, from_results
from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol, protocol_names
from robnet_zoo.benchmarks.result import Alarm, DataIdentity, Measurement, ModelIdentity, Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import trained_on
from robnet_zoo.core.statistics import wilson
from robnet_zoo.core.units import in_image_units
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import load_model
from tests.benchmarks.checks.models import (
    RAISED_BY_QUERIES,
    Brightness,
    Stairs,
    greys,
    probed,
    target_of,
)
from tools import committed

PGD20 = Pgd(steps=20)


MARGIN = Pgd(steps=20, loss="margin")


class HoldsOutsideTheGrid(Brightness):
    """Has a gradient at 8-bit images alone, which a random start is none of."""

    def seen(self, x):
        on_grid = ((x * 255).round() - x * 255).abs().amax((1, 2, 3), keepdim=True) < 1e-3
        return torch.where(on_grid, x, x.detach())


class Tiring(Brightness):
    """Forgets the image after so many queries and says 1 for ever."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.left = queries

    def forward(self, x):
        self.left -= 1
        return super().forward(x) if self.left >= 0 else super().forward(0 * x + 1)


def measured(module: nn.Module, *attacks, eps: str = "8/255", images: data.Images | None = None) -> dict[str, str]:
    """Return the alarms of a document's outcomes, by name."""
    return {alarm.name: alarm.text for alarm in from_result(document(module, *attacks, eps=eps, images=images))}


def document(module: nn.Module, *attacks, eps: str = "8/255", images: data.Images | None = None) -> Result:
    protocol = Protocol(name="made", eps=eps, attacks=attacks, batch=8)
    return evaluate(target_of(module), greys() if images is None else images, protocol, progress=False)


def written(*rows: tuple[object, list[int]], threat: str = "white_box", clean=None, **columns) -> Result:
    """Return a document with these attacks and outcomes; by default, all images are right without attack."""
    outcomes = [("clean", clean or [1] * len(rows[0][1])), *((attack.title, correct) for attack, correct in rows)]
    measurements = [
        Measurement(
            attack=title,
            accuracy=sum(correct) / len(correct),
            interval=wilson(sum(correct), len(correct)),
            correct=tuple(correct),
            seconds=0.0,
            **({} if title == "clean" else columns),
        )
        for title, correct in outcomes
    ]
    return Result(
        protocol=Protocol(name="written", threat=threat, dtype="float32", attacks=tuple(attack for attack, _ in rows)),
        model=ModelIdentity(name="target", state_sha256="1" * 64),
        source=ModelIdentity(name="source", state_sha256="2" * 64) if threat == "transfer" else None,
        data=DataIdentity(name="none", sha256="0" * 64, n=len(rows[0][1])),
        software={},
        device="none",
        measurements=tuple(measurements),
    )


def shares(right: int, n: int = 1000) -> list[int]:
    return [1] * right + [0] * (n - right)


def test_a_trained_network_raises_no_alarm_when_measured(cifar10):
    protocol = Protocol(name="short", attacks=(Fgsm(), Pgd(steps=3), Pgd(steps=6), Square(queries=4)), n=10, batch=10)
    result = evaluate(load_target("robnet_micro.cifar10", device="cpu"), cifar10, protocol, progress=False)
    assert result.accuracy("pgd6") < result.accuracy("clean")
    assert from_result(result) == []


def test_a_model_in_closed_form_raises_no_alarm():
    assert probed(Brightness()) == {}
    assert measured(Brightness(), Fgsm(), PGD20, MARGIN, Square(queries=50)) == {}


def test_bundled_weights_know_what_they_were_trained_on():
    entry = next(entry for entry in weights.manifest().entries if entry.model == "robnet_free")  # the default
    assert entry.trained_on == TrainingResult.load(committed.TRAINING / "robnet_free.cifar10.json").data_sha256
    assert load_target("robnet_free").training_sha256 == entry.trained_on


def test_the_file_beside_weights_says_what_they_were_trained_on(tmp_path):
    assert trained_on(tmp_path / "model.safetensors") is None
    (tmp_path / "run.json").write_text(json.dumps({"spec": "x", "recipe": {}, "data": "a" * 64}))
    assert trained_on(tmp_path / "model.safetensors") == "a" * 64


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder_says_what_its_weights_were_trained_on(tmp_path, prefix):
    folder = tmp_path / "folder"
    timm.models.save_for_hf(load_model("robnet_micro.digits"), folder, safe_serialization=True)
    (folder / "run.json").write_text(json.dumps({"data": "a" * 64}))
    (folder / "manifest.json").write_text("of something else")
    (tmp_path / "run.json").write_text(json.dumps({"data": "b" * 64}))
    assert load_target(f"{prefix}{folder}").training_sha256 == "a" * 64


def test_square_that_beats_gradients_is_seen_with_paired_counts():
    alarm_texts = measured(Stairs(), Fgsm(), MARGIN, Square(queries=50))
    # The random start of PGD moves the mean by less than a grey; Square finds 8 greys on either side.
    assert "of 56 images it alone fools" in alarm_texts["square_beats_gradient"]
    assert alarm_texts["square_beats_gradient"].endswith("they alone 0")


@pytest.mark.parametrize(
    ("attack", "right", "raised"),
    [(PGD20, 350, False), (PGD20, 450, True), (MARGIN, 303, True), (MARGIN, 302, False), (Apgd(), 399, False)],
)
def test_square_may_beat_the_cross_entropy_alone_by_what_a_margin_wins_on_honest_models(attack, right, raised):
    result = written((attack, shares(right)), (Square(), shares(300)))
    assert [alarm.name for alarm in from_result(result)] == ["square_beats_gradient"] * raised


@pytest.mark.parametrize(("alone", "raised"), [(3, True), (2, False)])  # 0.3 and 0.2 points of 1000 images
def test_square_that_beats_the_other_parts_of_autoattack_is_seen(alone, raised):
    attack = AutoAttack()
    broken_by = ("clean",) * 100 + ("apgd-ce",) * 300 + ("square",) * alone + (None,) * (600 - alone)
    right = [int(part is None) for part in broken_by]
    result = written((attack, right), broken_by=broken_by, flags=attack.flags(broken_by, ()))
    text = f"in autoattack, square alone fools {alone} of 1000 images that apgd-ce, apgd-t, fab-t left"
    assert [(alarm.name, alarm.text) for alarm in from_result(result)] == [("square_beats_gradient", text)] * raised


@pytest.mark.parametrize(("alone", "raised"), [(3, True), (2, False)])
def test_square_that_fools_what_attacks_in_turn_left_is_seen(alone, raised):
    result = written((MARGIN, shares(300)), (Square(), shares(300 - alone)))
    in_turn = (MARGIN.title, "square")
    result = result.model_copy(update={"protocol": result.protocol.model_copy(update={"in_turn": in_turn})})
    text = f"square fools {alone} of the 300 images that {MARGIN.title} left, of 1000"
    assert [(alarm.name, alarm.text) for alarm in from_result(result)] == [("square_beats_gradient", text)] * raised


def test_fgsm_that_beats_pgd_is_seen():
    alarm_texts = measured(HoldsOutsideTheGrid(), Fgsm(), PGD20)
    assert alarm_texts["fgsm_beats_pgd"].startswith("fgsm leaves")


@pytest.mark.parametrize("step", ["0", "4/2550", "1/255"])
@pytest.mark.parametrize("kind", [Pgd, Bim, MiFgsm])
def test_steps_that_cannot_cross_the_ball_are_named_and_fgsm_beats_them(kind, step):
    attack = kind(steps=2, step=step)
    alarm_texts = measured(Brightness(), Fgsm(), attack)
    assert set(alarm_texts) == {"cannot_cross_ball", "fgsm_beats_pgd"}
    text = f"the steps of {attack.title} add up to {2 * in_image_units(step):.3g}, which is less than eps, 0.0314"
    assert alarm_texts["cannot_cross_ball"] == text


def test_steps_that_just_cross_the_ball_and_fewer_of_the_same_raise_no_alarm_about_it():
    enough, fewer, other = (Pgd(steps=4), shares(5)), (Pgd(steps=3), shares(5)), (Pgd(steps=3, step="1/255"), shares(5))
    assert from_result(written(enough, fewer)) == []
    assert [alarm.name for alarm in from_result(written(fewer))] == ["cannot_cross_ball"]
    (alarm,) = from_result(written(enough, (other[0].model_copy(update={"name": "slip"}), other[1])))
    assert alarm.text.startswith("the steps of slip add up to 0.0118")
    transfer = from_result(written(fewer, threat="transfer"))
    assert [alarm.name for alarm in transfer] == ["cannot_cross_ball"]


def test_steps_that_fall_short_by_rounding_alone_raise_no_alarm():
    attack = Pgd(steps=25, step="3/1275")
    assert attack.reach < in_image_units("15/255")
    result = written((attack, shares(5)))
    assert (
        from_result(result.model_copy(update={"protocol": result.protocol.model_copy(update={"eps": "15/255"})})) == []
    )


def test_no_bundled_protocol_has_an_attack_that_cannot_cross_its_ball():
    for name in protocol_names():
        protocol = load_protocol(name)
        assert all(attack.reach >= protocol.eps_value for attack in protocol.attacks)


def test_images_with_answers_that_are_not_finite_are_all_counted():
    # The greys below 110 have no answer; with eps 8/255, those up to 117 come to lie there.
    class Broken(Brightness):
        def forward(self, x):
            return super().forward(x) + torch.where(x.mean((1, 2, 3)) < 109.5 / 255, torch.nan, 0.0)[:, None]

    images = greys()[torch.arange(55, -1, -1).repeat(2)]  # the broken ones come after the first 40
    alarm_texts = measured(Broken(), PGD20, images=replace(images, pixels=images.pixels.clone()))
    assert alarm_texts["nan_logits"].startswith("20 of 112 images get logits that are not finite: 20 clean")


def test_answers_no_better_than_chance_are_seen():
    labels = [0, 1, 2, 3] * 25
    assert from_answers(labels, labels, classes=4) == []
    (alarm,) = from_answers([0] * 100, labels, classes=4)
    assert alarm.name == "chance_level"
    assert alarm.text == "25 of 100 images are right without attack, 25.0% (17.5 – 34.3); by chance 25.0% would be"
    assert from_answers([(label + 1) % 4 for label in labels], labels, classes=4)  # labels of another order
    assert from_answers([-1] * 100, labels, classes=4)  # none is finite
    assert from_answers([0] * 100, [0] * 90 + [1] * 10, classes=2)  # 90 % right, and blind
    assert from_answers([0] * 85 + [1] * 15, [0] * 85 + [1] * 5 + [0] * 10, classes=2) == []


def test_chance_ends_where_the_interval_does():
    labels = [0, 1, 2, 3] * 25
    lowest = next(right for right in range(100) if wilson(right, 100).low > 0.25)
    for right in (0, lowest - 4, lowest, 100):  # whole rounds, so that every class is answered as often
        right -= right % 4
        answers = [label if index < right else (label + 1) % 4 for index, label in enumerate(labels)]
        assert bool(from_answers(answers, labels, classes=4)) == (right < lowest)


def test_labels_that_are_all_alike_are_compared_with_an_answer_of_any_class():
    assert from_answers([1] * 28, [1] * 28, classes=2) == []
    assert from_answers([0, 1] * 14, [1] * 28, classes=2)


def test_an_untrained_model_is_named_and_its_document_says_so():
    torch.manual_seed(0)
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
    protocol = Protocol(name="made", attacks=(Fgsm(),), batch=8)
    images = data.load("digits", n=100)
    small = replace(images, pixels=images.pixels[:, :, ::8, ::8].contiguous())
    result = evaluate(target_of(untrained), small, protocol, progress=False)
    assert "chance_level" in {alarm.name for alarm in result.alarms}


def test_more_steps_that_find_less_are_seen(monkeypatch):
    monkeypatch.setattr(alarms, "from_target", lambda *_, **__: [])  # whose queries would tire the model
    monkeypatch.setattr("robnet_zoo.benchmarks.evaluation.probed", lambda target, *_, **__: target)
    # Eight images a forward: one for the clean ones, five for the four steps, and from then on the model says 1.
    alarm_texts = measured(Tiring(6), Pgd(steps=4), Pgd(steps=8), images=greys(128, 136))
    text = r"pgd4 leaves \d+\.0% right, pgd8 100.0%: of 8 images it alone fools [1-8], they alone 0"
    assert re.fullmatch(text, alarm_texts["more_steps_less_success"])


def test_steps_are_compared_only_where_nothing_else_differs():
    other = Pgd(steps=8, step="1/255")
    assert from_result(written((Pgd(steps=4), shares(10)), (other, shares(20)))) == []


def test_claims_that_are_never_confirmed_are_counted():
    class Shifted(Brightness):
        """Changes its mind 6 greys earlier."""

        def seen(self, x):
            return x - 6 / 255

    images = greys(128, 156)
    target = replace(target_of(Brightness()), proposer=Shifted().eval(), probed=True)
    protocol = Protocol(name="made", eps="4/255", attacks=(PGD20,), batch=8)
    (alarm,) = from_result(evaluate(target, images, protocol, progress=False))
    # At eps 4/255 the original falls from 128 to 131, the other one up to 137: 10 are claimed, 6 are not confirmed.
    assert alarm.name == "unconfirmed"
    assert alarm.text.startswith("pgd20: of 10 images claimed, 6 were never confirmed")


def test_images_that_were_wrong_before_are_not_claims():
    clean = [0] * 100 + [1] * 12
    result = written((PGD20, [0] * 110 + [1] * 2), clean=clean, unconfirmed=(0,) * 110 + (1, 3))
    (alarm,) = from_result(result)
    assert alarm.text == "pgd20: of 12 images claimed, 2 were never confirmed (4 claims)"


def test_a_transfer_that_beats_the_white_box_is_seen_across_documents():
    images, protocol = greys(), Protocol(name="t", threat="transfer", attacks=(PGD20,), batch=8)
    masked, source = target_of(Stairs()), target_of(Brightness())
    source = replace(source, identity=source.identity.model_copy(update={"state_sha256": "2" * 64}))
    white = evaluate(masked, images, protocol.model_copy(update={"threat": "white_box"}), progress=False)
    (through,) = evaluate_transfer([masked], source, images, protocol, progress=False)
    (alarm,) = from_results([white, through])
    assert alarm.name == "transfer_beats_white_box"
    assert alarm.text.startswith("Stairs through Brightness: pgd20 leaves")


def test_square_in_a_document_of_its_own_is_compared_with_the_gradients_of_another():
    white, square = written((MARGIN, shares(400))), written((Square(), shares(300)))
    (alarm,) = from_results([square, white])
    assert alarm.name == "square_beats_gradient"
    assert alarm.text.endswith("of 1000 images it alone fools 100, they alone 0")


def test_documents_of_other_models_images_or_radii_are_kept_apart():
    white, square = written((MARGIN, shares(400))), written((Square(), shares(300)))
    others = [
        square.model_copy(update={"model": ModelIdentity(name="other", state_sha256="3" * 64)}),
        square.model_copy(update={"data": DataIdentity(name="other", sha256="3" * 64, n=1000)}),
        square.model_copy(update={"protocol": square.protocol.model_copy(update={"eps": "4/255"})}),
    ]
    assert from_results([white, *others]) == []


def test_a_transfer_weaker_than_the_white_box_raises_no_alarm():
    white = written((PGD20, shares(400)))
    assert from_results([white, written((PGD20, shares(600)), threat="transfer")]) == []


def test_an_incomplete_document_raises_no_alarm():
    result = written((MARGIN, shares(400)), (Square(), shares(300)))
    assert from_result(result)
    assert from_result(result.model_copy(update={"complete": False})) == []


def test_every_alarm_is_explained_by_one_sentence():
    assert all(text.count(".") == 1 and text.endswith(".") for text in (kind.meaning for kind in ALARMS.values()))


def test_every_alarm_of_the_list_is_named_by_a_test_here():
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
    assert set(RAISED_BY_QUERIES) <= set(ALARMS)
    assert [name for name in ALARMS if tests.count(f'"{name}"') == 0] == []


def test_alarms_are_listed_worst_first() -> None:
    severities = [kind.severity for kind in ALARMS.values()]
    assert [severity.word for severity in Severity] == ["note", "ALARM", "ALARM"]
    assert severities == sorted(severities, reverse=True)
    assert set(severities) == set(Severity)


def test_alarms_are_grouped_by_kind_worst_first() -> None:
    names = ("unconfirmed", "fgsm_beats_pgd", "from_a_newer_version", "trained_on_test", "unconfirmed")
    groups = by_kind(Alarm(name=name, text=str(number)) for number, name in enumerate(names))
    assert list(groups) == ["trained_on_test", "fgsm_beats_pgd", "from_a_newer_version", "unconfirmed"]
    assert [alarm.text for alarm in groups["unconfirmed"]] == ["0", "4"]
