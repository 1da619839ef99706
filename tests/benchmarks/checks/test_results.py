"""Alarms: each is raised by a model or by data made to raise it, and honest models raise none."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Apgd, AutoAttack, Fgsm, Pgd, Square
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.checks.results import ALARMS, Severity, by_kind, from_result, from_results, from_target
from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Alarm, DataIdentity, Measurement, ModelIdentity, Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.benchmarks.targets.torch import of_module, trained_on
from robnet_zoo.core.statistics import wilson
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import load_model
from tools import committed

PGD20 = Pgd(steps=20)
MARGIN = Pgd(steps=20, loss="margin")


class Brightness(nn.Module):
    """Class 1 if the image is brighter than a half, from its pixels as `seen`: honest, if that is the identity."""

    scale = 10.0

    def forward(self, x):
        bright = self.scale * (self.seen(x).mean((1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], dim=1)

    def seen(self, x):
        return x


class Stairs(Brightness):
    """Sees 8-bit pixels: the function is nearly the same, its gradient is zero."""

    def seen(self, x):
        return (x * 255).round() / 255


class HoldsOutsideTheGrid(Brightness):
    """Has a gradient at 8-bit images alone, which a random start is none of."""

    def seen(self, x):
        on_grid = ((x * 255).round() - x * 255).abs().amax((1, 2, 3), keepdim=True) < 1e-3
        return torch.where(on_grid, x, x.detach())


class Cliff(Brightness):
    """The square root of zero beside the image: its gradient is no number."""

    def seen(self, x):
        return x + (x - x.detach()).abs().sqrt()


class Scaled(Brightness):
    scale = 10_000.0


class Probable(Brightness):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Broken(Brightness):
    """No number for dark images."""

    def forward(self, x):
        logits = super().forward(x)
        return logits.where(x.mean((1, 2, 3), keepdim=False)[:, None] > 0.45, torch.nan)


class Noisy(Brightness):
    def seen(self, x):
        return x + 0.1 * torch.randn_like(x)


class BatchNormalised(Brightness):
    """Its batch norm uses the batch's own statistics, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def seen(self, x):
        return self.norm(x) + 0.5


class Dropping(Brightness):
    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(3) if norm is None else norm

    def seen(self, x):
        return self.dropout(self.norm(x))


class StubbornNorm(nn.BatchNorm2d):
    """Stays in training mode."""

    def train(self, mode: bool = True):
        return super().train(True)


class Tiring(Brightness):
    """Forgets the image after so many queries and says 1 for ever."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.left = queries

    def forward(self, x):
        self.left -= 1
        return super().forward(x) if self.left >= 0 else super().forward(0 * x + 1)


@pytest.fixture(scope="module")
def cifar10() -> data.Images:
    """The first 50 test images of CIFAR-10."""
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        pytest.skip("ROBNET_ZOO_DATA does not name a folder with cifar10_test1k.npz")
    return data.load(Path(folder) / "cifar10_test1k.npz", n=50)


def greys(low: int = 100, high: int = 156) -> data.Images:
    """Even 4x4 images of each grey from `low` up to `high`, exclusive; labels are Brightness's answers."""
    values = torch.arange(low, high, dtype=torch.uint8)
    labels = (values > 127).long()
    return data.Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")


def target_of(module: nn.Module, *, handed_over: bool = False) -> Target:
    target = of_module(module.eval() if not handed_over else module, name=type(module).__name__)
    return replace(target, module=module) if handed_over else target


def probed(module: nn.Module, images: data.Images | None = None, **changes) -> dict[str, str]:
    """The alarms of the queries, by name."""
    found = from_target(target_of(module, **changes), greys() if images is None else images, seed=0)
    return {alarm.name: alarm.text for alarm in found}


def measured(module: nn.Module, *attacks, eps: str = "8/255", images: data.Images | None = None) -> dict[str, str]:
    """The alarms of a document's outcomes, by name."""
    return {alarm.name: alarm.text for alarm in from_result(document(module, *attacks, eps=eps, images=images))}


def document(module: nn.Module, *attacks, eps: str = "8/255", images: data.Images | None = None) -> Result:
    protocol = Protocol(name="made", eps=eps, attacks=attacks, batch=8)
    return evaluate(target_of(module), greys() if images is None else images, protocol, progress=False)


def written(*rows: tuple[object, list[int]], threat: str = "white_box", clean=None, **columns) -> Result:
    """A document with these attacks and outcomes; before them, by default, all images are right."""
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


# Honest models


def test_a_trained_network_raises_no_alarm_when_queried(cifar10):
    assert from_target(load_target("robnet_micro.cifar10", device="cpu"), cifar10, seed=0, count=32) == []


def test_a_trained_network_raises_no_alarm_when_measured(cifar10):
    protocol = Protocol(name="short", attacks=(Fgsm(), Pgd(steps=3), Pgd(steps=6), Square(queries=4)), n=10, batch=10)
    result = evaluate(load_target("robnet_micro.cifar10", device="cpu"), cifar10, protocol, progress=False)
    assert result.accuracy("pgd6") < result.accuracy("clean")
    assert from_result(result) == []


def test_a_model_in_closed_form_raises_no_alarm():
    assert probed(Brightness()) == {}
    assert measured(Brightness(), Fgsm(), PGD20, MARGIN, Square(queries=50)) == {}


def test_a_network_trained_here_raises_no_alarm_in_either_mode_that_answers_alike():
    torch.manual_seed(0)
    images = data.digits()[0][:400]
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pixels, labels = images.batch(slice(None))
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((model(pixels).argmax(1) == labels).float().mean()) > 0.8
    assert probed(model.train(), data.load("digits", n=64), handed_over=True) == {}


# Queries

RAISED_BY_QUERIES = {
    "robust_at_half": (Stairs, r"pgd20 left \d+ of 56 images right at eps 1/2"),
    "zero_gradients": (Stairs, r"100.0% of 56 images: 56 exactly zero, 0 not finite"),
    # Greys i of 255: the lead is 2 * 10,000 * |i / 255 - 1/2|, beyond 87.3 for all but 127 and 128.
    "saturated_logits": (Scaled, r"the largest logit of 54 of 56 images leads by more than 87, up to 2\.16e\+03"),
    "probabilities": (Probable, r"the 2 outputs of each of 56 images add up to 1"),
    # 0.45 of 255 is 114.75: the greys from 100 to 114 have none.
    "nan_logits": (Broken, r"15 of 56 images get logits that are not finite"),
    "random_outputs": (Noisy, r"two answers to the same 56 images differ by 0\.\d+ of the largest logit"),
    "batch_dependent": (BatchNormalised, r"beside other images, logits change by up to [\d.]+ of the largest, .*"),
}


@pytest.mark.parametrize("name", RAISED_BY_QUERIES)
def test_a_model_made_to_raise_an_alarm_raises_it(name):
    module, text = RAISED_BY_QUERIES[name]
    assert re.fullmatch(text, probed(module())[name])


def test_gradients_that_are_no_numbers_are_counted_and_stop_no_probe():
    assert probed(Cliff())["zero_gradients"] == "100.0% of 56 images: 0 exactly zero, 56 not finite"


def test_a_random_model_is_probed_the_same_way_twice_and_no_generator_moves():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = probed(Noisy())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert probed(Noisy()) == first


def test_training_mode_that_answers_otherwise_is_seen_when_it_was_handed_over():
    assert "as handed over, in training mode" in probed(Dropping().train(), handed_over=True)["mode_dependent"]
    assert "mode_dependent" not in probed(Dropping().eval(), handed_over=True)


def test_training_mode_is_seen_behind_a_normalisation_too():
    target = of_module(Dropping().train(), name="d", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert "mode_dependent" in {alarm.name for alarm in from_target(target, greys(), seed=0)}


def test_a_part_that_ignores_eval_is_named():
    model = nn.Sequential(StubbornNorm(3), Brightness())
    assert probed(model, handed_over=True)["mode_dependent"].endswith("0 of 3 modules ignore eval()")


def test_what_training_mode_writes_down_is_no_difference_between_modes():
    class Counting(Brightness):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def seen(self, x):
            shifted = x + self.calls
            self.calls += self.training
            return shifted

    assert probed(Counting().train(), handed_over=True) == {}


def test_answers_that_are_no_numbers_raise_no_second_alarm_about_what_follows_from_them():
    assert set(probed(Broken())) == {"nan_logits"}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), StubbornNorm(3)])
def test_the_probe_of_modes_leaves_modes_and_buffers_as_they_were(norm):
    model = Dropping(norm).train()
    model.dropout.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert "mode_dependent" in probed(model, handed_over=True)
    assert (model.training, model.norm.training, model.dropout.training) == (True, True, False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_target_without_gradients_is_asked_for_none():
    blind = replace(target_of(Stairs()), proposer=None)
    assert from_target(blind, greys(), seed=0) == []


# Data


def test_images_outside_are_seen():
    images = replace(greys(), pixels=greys().pixels.float() - 110)
    assert probed(Brightness(), images)["inputs_outside"] == "values from -0.0392 to 0.176 in 56 images"


def test_labels_that_the_model_has_no_class_for_are_counted():
    images = greys()
    labels = images.labels.clone()
    labels[:3] = torch.tensor([2, -1, 5])
    found = probed(Brightness(), replace(images, labels=labels))
    assert found["labels_out_of_range"] == "3 of 56 labels are not from 0 to 1; they go from -1 to 5"


@pytest.mark.parametrize(("n", "raised"), [(20, True), (19, False)])  # of all-zero labels of 2 classes: 2 ** -n
def test_labels_that_name_no_upper_class_are_seen_once_chance_is_no_reason(n, raised):
    text = f"the model has 2 classes, and none of {n} labels is above 0"
    assert probed(Brightness(), greys(100, 100 + n)) == ({"unused_classes": text} if raised else {})


def test_other_images_raise_no_alarm_about_training():
    assert from_target(target_of(Brightness()), greys(), seed=0) == []
    assert from_target(replace(target_of(Brightness()), training_sha256="0" * 64), greys(), seed=0) == []


@pytest.mark.parametrize("part", [slice(None), slice(51)])  # 51 of 56: what training leaves beside its validation
def test_the_training_file_itself_is_known_by_its_hash(part):
    hashed = greys()[part].sha256
    (alarm,) = from_target(replace(target_of(Brightness()), training_sha256=hashed), greys(), seed=0)
    assert alarm.name == "trained_on_test"


@pytest.mark.parametrize("part", [slice(None), slice(51)])
def test_the_training_file_is_known_where_only_its_first_images_are_measured(part):
    target = replace(target_of(Brightness()), training_sha256=greys()[part].sha256)
    protocol = Protocol(name="made", attacks=(Fgsm(),), n=40)
    (alarm,) = evaluate(target, greys(), protocol, progress=False).alarms
    assert alarm.name == "trained_on_test"
    assert alarm.text.startswith("40 of 40 images are among the very ones it was trained on")


def test_bundled_weights_know_what_they_were_trained_on():
    (entry,) = (entry for entry in weights.manifest().entries if entry.model == "robnet_free")
    assert entry.trained_on == TrainingResult.load(committed.TRAINING / "robnet_free.fast_cifar10.json").data_sha256
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


# Outcomes


def test_square_that_beats_gradients_is_seen_with_paired_counts():
    found = measured(Stairs(), Fgsm(), MARGIN, Square(queries=50))
    # The random start of PGD moves the mean by less than a grey; Square finds 8 greys on either side.
    assert "of 56 images it alone fools" in found["square_beats_gradient"]
    assert found["square_beats_gradient"].endswith("they alone 0")


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


def test_fgsm_that_beats_pgd_is_seen():
    found = measured(HoldsOutsideTheGrid(), Fgsm(), PGD20)
    assert found["fgsm_beats_pgd"].startswith("fgsm leaves")


def test_fgsm_may_beat_steps_that_do_not_reach_the_border():
    assert measured(Brightness(), Fgsm(), Pgd(steps=2, step="1/255")) == {}


def test_more_steps_that_find_less_are_seen(monkeypatch):
    monkeypatch.setattr(alarms, "from_target", lambda *_, **__: [])  # whose queries would tire the model
    # Eight images a forward: one for the clean ones, five for the four steps, and from then on the model says 1.
    found = measured(Tiring(6), Pgd(steps=4), Pgd(steps=8), images=greys(128, 136))
    text = r"pgd4 leaves \d+\.0% right, pgd8 100.0%: of 8 images it alone fools [1-8], they alone 0"
    assert re.fullmatch(text, found["more_steps_less_success"])


def test_steps_are_compared_only_where_nothing_else_differs():
    other = Pgd(steps=8, step="1/255")
    assert from_result(written((Pgd(steps=4), shares(10)), (other, shares(20)))) == []


def test_claims_that_are_never_confirmed_are_counted():
    class Shifted(Brightness):
        """Changes its mind 6 greys earlier."""

        def seen(self, x):
            return x - 6 / 255

    images = greys(128, 156)
    target = replace(target_of(Brightness()), proposer=Shifted().eval())
    protocol = Protocol(name="made", eps="4/255", attacks=(PGD20,), batch=8)
    (alarm,) = from_result(evaluate(target, images, protocol, progress=False))
    # At eps 4/255 the original falls from 128 to 131, the other one up to 137: 10 are claimed, 6 in vain.
    assert alarm.name == "unconfirmed"
    assert alarm.text.startswith("pgd20: of 10 images claimed, 6 were never confirmed")


def test_images_that_were_wrong_before_are_no_claims():
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


# The list


def test_every_alarm_is_explained_by_one_sentence():
    assert all(text.count(".") == 1 and text.endswith(".") for text in (kind.meaning for kind in ALARMS.values()))


def test_every_alarm_of_the_list_is_named_by_a_test_here():
    tests = Path(__file__).read_text(encoding="utf-8")
    assert set(RAISED_BY_QUERIES) <= set(ALARMS)
    assert [name for name in ALARMS if tests.count(f'"{name}"') == 0] == []


def test_alarms_are_listed_worst_first() -> None:
    severities = [kind.severity for kind in ALARMS.values()]
    assert severities == sorted(severities, reverse=True)
    assert set(severities) == set(Severity)


def test_alarms_are_grouped_by_kind_worst_first() -> None:
    names = ("unconfirmed", "fgsm_beats_pgd", "from_a_newer_version", "trained_on_test", "unconfirmed")
    groups = by_kind(Alarm(name=name, text=str(number)) for number, name in enumerate(names))
    assert list(groups) == ["trained_on_test", "fgsm_beats_pgd", "from_a_newer_version", "unconfirmed"]
    assert [alarm.text for alarm in groups["unconfirmed"]] == ["0", "4"]
