"""Models made to mislead raise the alarm that names them, and honest ones raise none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Fgsm
from robnet_zoo.benchmarks.checks.results import from_target
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from tests.benchmarks.checks.models import (
    RAISED_BY_QUERIES,
    Brightness,
    Broken,
    Noisy,
    Stairs,
    greys,
    probed,
    target_of,
)
from tests.converters.onnx import quantised_files


class Cliff(Brightness):
    """The square root of zero beside the image: its gradient is NaN."""

    def seen(self, x):
        return x + (x - x.detach()).abs().sqrt()


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


def test_a_trained_network_raises_no_alarm_when_queried(cifar10):
    assert from_target(load_target("robnet_micro.cifar10", device="cpu"), cifar10[:32], seed=0) == []


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


@pytest.mark.parametrize("name", RAISED_BY_QUERIES)
def test_a_model_made_to_raise_an_alarm_raises_it(name):
    module, text = RAISED_BY_QUERIES[name]
    assert re.fullmatch(text, probed(module())[name])


def test_gradients_that_are_not_finite_are_counted_and_stop_no_probe():
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


def test_what_training_mode_writes_down_is_not_a_difference_between_modes():
    class Counting(Brightness):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def seen(self, x):
            shifted = x + self.calls
            self.calls += self.training
            return shifted

    raised = probed(Counting().train(), handed_over=True)
    assert set(raised) == {"no_fast_form"}
    assert raised["no_fast_form"].endswith("its fast form is not used: it changes its own buffers, by aten.add_.Tensor")


def test_answers_that_are_not_finite_raise_no_second_alarm_about_what_follows_from_them():
    assert set(probed(Broken())) == {"nan_logits"}


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), StubbornNorm(3)])
def test_the_probe_of_modes_leaves_modes_and_buffers_as_they_were(norm):
    model = Dropping(norm).train()
    model.dropout.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert "mode_dependent" in probed(model, handed_over=True)
    assert (model.training, model.norm.training, model.dropout.training) == (True, True, False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("batch", [6, 100])
def test_64_images_are_shown_however_many_are_attacked_at_once(batch):
    protocol = Protocol(name="made", attacks=(Fgsm(),), batch=batch)
    result = evaluate(target_of(Stairs()), greys(80, 180), protocol, progress=False)
    alarms = {alarm.name: alarm.text for alarm in result.alarms}
    assert alarms["zero_gradients"] == "100.0% of 64 images: 64 exactly zero, 0 not finite"


def test_images_are_shown_in_pieces_of_the_batch_or_each_beside_another():
    honest, largest = target_of(Brightness()), {"judge": 0, "proposer": 0}

    def counting(form):
        def classifier(x):
            largest[form] = max(largest[form], len(x))
            return getattr(honest, form)(x)

        return classifier

    target = replace(honest, judge=counting("judge"), proposer=counting("proposer"), probed=True)
    assert from_target(target, greys(80, 180), seed=0, batch=6) == []
    assert largest == {"judge": 12, "proposer": 6}


def test_a_target_without_gradients_is_asked_for_none():
    blind = replace(target_of(Stairs()), proposer=None)
    assert from_target(blind, greys(), seed=0) == []


def test_images_outside_are_seen():
    images = replace(greys(), pixels=greys().pixels.float() - 110)
    assert probed(Brightness(), images)["inputs_outside"] == "values from -0.0392 to 0.176 in 56 images"


def test_labels_that_the_model_has_no_class_for_are_counted():
    images = greys()
    labels = images.labels.clone()
    labels[:3] = torch.tensor([2, -1, 5])
    alarms = probed(Brightness(), replace(images, labels=labels))
    assert alarms["labels_out_of_range"] == "3 of 56 labels are not from 0 to 1; they go from -1 to 5"


@pytest.mark.parametrize(("n", "raised"), [(20, True), (19, False)])  # of all-zero labels of 2 classes: 2 ** -n
def test_labels_that_name_no_upper_class_are_seen_once_chance_is_not_a_reason(n, raised):
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


def test_what_attacks_look_at_and_what_counts_as_logits_is_said():
    target = replace(target_of(Brightness()), why_not="it was changed", output="the first counts", probed=True)
    alarms = {alarm.name: alarm.text for alarm in from_target(target, greys(), seed=0)}
    assert alarms == {
        "no_fast_form": "attacks look at the model itself: it was changed",
        "output_chosen": "the first counts",
    }


@pytest.fixture(scope="module")
def saturating(tmp_path_factory):
    """Return a file of eight bits, and images that it takes."""
    path = quantised_files.quantised(tmp_path_factory.mktemp("files"), "qdq", seven_bits=False)
    pictures = torch.randint(256, (8, *quantised_files.SHAPE), generator=torch.Generator().manual_seed(0))
    images = data.Images(pictures.to(torch.uint8), torch.arange(8) % quantised_files.CLASSES, "noise")
    return load_target(str(path), device="cpu"), images


def quantised_alarms(target, images):
    names = ("saturating_sums", "sums_may_saturate", "optimisation_dependent")
    return {alarm.name: alarm.text for alarm in from_target(target, images, seed=0) if alarm.name in names}


@pytest.mark.parametrize(("sign", "name"), [(-1, "saturating_sums"), (1, "sums_may_saturate")])
def test_weights_of_eight_bits_are_an_alarm_where_they_change_classes_on_this_machine_else_a_note(
    saturating, sign, name
):
    target, images = saturating
    assert target.exact is not None
    text = quantised_alarms(replace(target, exact=lambda x: sign * target.judge(x)), images)[name]
    assert re.fullmatch(r"with sums that cannot saturate, logits change by .* the class of \d of 8 images", text)


def test_weights_of_seven_bits_are_no_alarm(saturating, tmp_path):
    target = load_target(str(quantised_files.quantised(tmp_path, "qdq")), device="cpu")
    assert quantised_alarms(target, saturating[1]) == {}


def test_classes_that_change_without_optimisation_are_an_alarm(saturating):
    target, images = saturating
    upside_down = replace(target, unoptimised=lambda x: -target.judge(x), exact=None)
    text = quantised_alarms(upside_down, images)["optimisation_dependent"]
    assert text.endswith("the class of 8 of 8 images")


def test_dynamic_quantisation_by_the_range_of_a_batch_is_an_alarm(saturating, tmp_path):
    target = load_target(str(quantised_files.quantised(tmp_path, "dynamic")), device="cpu")
    assert "batch_dependent" in {alarm.name for alarm in from_target(target, saturating[1], seed=0)}


@pytest.mark.parametrize("form", quantised_files.FORMS)
def test_a_file_whose_graph_is_not_traced_says_so_in_a_line(form, saturating, tmp_path):
    target = load_target(str(quantised_files.quantised(tmp_path, form)), device="cpu")
    (text,) = (alarm.text for alarm in from_target(target, saturating[1], seed=0) if alarm.name == "no_fast_form")
    start = "attacks look at the model itself: it has no fast form: tracing would cut the gradients of what quantises"
    assert text.startswith(f"{start} or rounds, the ONNX operators ")
    assert text.isprintable()


def roundings(target, images):
    return [alarm.text for alarm in from_target(target, images, seed=0) if alarm.name == "rounds_otherwise"]


@pytest.mark.parametrize("form", quantised_files.FORMS)
def test_a_file_whose_graph_has_its_integers_raises_no_note_of_rounding(form, saturating, tmp_path):
    assert roundings(load_target(str(quantised_files.quantised(tmp_path, form)), device="cpu"), saturating[1]) == []


def test_how_far_the_graph_of_a_quantised_file_is_from_it_is_a_note(saturating, tmp_path):
    target = load_target(str(quantised_files.quantised(tmp_path, "qdq")), device="cpu")
    upside_down = replace(target, proposer=lambda x: -target.proposer(x))
    (text,) = roundings(upside_down, saturating[1])
    assert text == (
        "logits of the graph that attacks look at are up to 2 of the largest away on this machine, "
        "and the class of 8 of 8 images differs"
    )
    assert roundings(replace(upside_down, twin=None), saturating[1]) == []  # not quantised


def test_sums_that_saturate_are_no_other_rounding(saturating):
    target, images = saturating
    saturated = replace(target, judge=lambda x: -target.judge(x), unoptimised=None)
    assert quantised_alarms(saturated, images).keys() == {"saturating_sums"}
    assert roundings(saturated, images) == []
