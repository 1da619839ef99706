"""A model that wants images or labels in another form than it is given is recognised, and an honest one is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.benchmarks.checks.inputs import from_inputs
from robnet_zoo.benchmarks.checks.target import from_target
from robnet_zoo.benchmarks.targets.target import Normalisation
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import TargetError
from tests.benchmarks.checks.models import probed

REDS = torch.linspace(0.05, 0.8, 16)
COLOURS = torch.stack([REDS, torch.full((16,), 0.4), 0.85 - REDS], dim=1)  # (16, 3), a class each; no two are far apart
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)  # of CIFAR-10


class Nearest(nn.Module):
    """The class whose colour is the nearest to the mean colour of an image, as `undone` gives it."""

    def __init__(self, undone=lambda x: x, *, shift: int = 0) -> None:
        super().__init__()
        self.undone, self.shift = undone, shift

    def forward(self, x):
        colours = self.undone(x).mean((2, 3))  # (N, 3)
        return -torch.cdist(colours, COLOURS).roll(self.shift, 1)


def wide(values):
    return torch.tensor(values)[:, None, None]


def coloured(n: int, *, seed: int = 0) -> data.Images:
    """Return noisy 4x4 images of the colours, sorted by class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) * 16 // n
    noise = 0.01 * torch.randn(n, 3, 4, 4, generator=generator)
    pixels = (COLOURS[labels][:, :, None, None] + noise).clamp(0, 1)
    return data.Images((pixels * 255).round().to(torch.uint8), labels, "coloured")


def alarms_of(module: nn.Module, images: data.Images, *, batch: int = 32, **normalisation) -> dict[str, str]:
    target = of_module(module.eval(), name="nearest", **normalisation)
    return {alarm.name: alarm.text for alarm in from_inputs(target, images, batch=batch)}


FORMS = {
    "normalised": (
        Nearest(lambda x: x * wide(STD) + wide(MEAN)),
        {},
        ("normalisation", "the normalisation of CIFAR-10: --mean 0.4914 0.4822 0.4465 --std 0.247 0.2435 0.2616"),
    ),
    "from -1 on": (
        Nearest(lambda x: x / 2 + 0.5),
        {},
        ("normalisation", "the normalisation of images in [-1, 1]: --mean 0.5 --std 0.5"),
    ),
    "levels": (
        Nearest(lambda x: x / 255),
        {},
        ("normalisation", "the normalisation of images in [0, 255]: --mean 0 --std 0.00392157"),
    ),
    "normalised twice": (
        Nearest(),
        {"mean": MEAN, "std": STD},
        ("normalisation", "images as they are: --mean 0 --std 1"),
    ),
    "blue first": (
        Nearest(lambda x: x.flip(1)),
        {},
        ("channel_order", "channels in the order blue, green, red: the model wants them so"),
    ),
    "counted from 1": (
        Nearest(shift=1),
        {},
        ("label_order", "1 added to each label, modulo 16: the classes are in another order"),
    ),
    "counted from -2": (
        Nearest(shift=-2),
        {},
        ("label_order", "2 taken from each label, modulo 16: the classes are in another order"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_that_a_model_wants_is_named_with_both_accuracies(form):
    module, normalisation, (name, wanted) = FORMS[form]
    images = coloured(80)
    ((raised, text),) = alarms_of(module, images, **normalisation).items()
    assert raised == name
    before, after = text.split(" images are right as they are given, ")
    target = of_module(module, name="nearest", **normalisation)
    right = int((target.judge(images.batch(slice(None))[0]).argmax(1) == images.labels).sum())
    assert before == f"{right} of 80"
    assert after == f"80 with {wanted}"


def test_labels_turn_over_at_the_number_of_classes_that_the_target_states():
    target = replace(of_module(Nearest(shift=1), name="nearest"), num_classes=1000)
    (alarm,) = from_inputs(target, coloured(80), batch=32)
    assert alarm.text.endswith("1 added to each label, modulo 1000: the classes are in another order")


def test_flags_of_the_alarm_give_the_accuracy_that_it_promises():
    module = Nearest(lambda x: x * wide(STD) + wide(MEAN))
    assert alarms_of(module, coloured(80), mean=MEAN, std=STD) == {}


def test_the_normalisation_of_timms_configuration_is_tried():
    images = coloured(80)
    strange = Normalisation((0.9, 0.1, 0.3), (0.05, 3.0, 0.5))
    target = of_module(Nearest(lambda x: x * wide(strange.std) + wide(strange.mean)), name="nearest")
    assert from_inputs(target, images, batch=32) == []
    (alarm,) = from_inputs(replace(target, stated=strange), images, batch=32)
    assert alarm.text.endswith("timm's configuration: --mean 0.9 0.1 0.3 --std 0.05 3 0.5")


def test_what_a_configuration_states_is_part_of_a_target_that_does_not_use_it():
    model = timm.create_model("resnet18_cifar", width=0.05, depth=0.1)
    model.pretrained_cfg = {"mean": MEAN, "std": list(STD)}
    target = of_module(model, name="resnet")
    assert target.stated == Normalisation(MEAN, STD)
    assert target.identity.mean is None


def test_a_form_that_few_images_leave_in_doubt_is_decided_by_more():
    # Five of six labels are random, so that few images tell one form from another.
    images = coloured(400)
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(400, generator=generator) < 1 / 6
    doubtful = replace(images, labels=images.labels.where(known, torch.randint(16, (400,), generator=generator)))
    few = doubtful[::4]
    assert alarms_of(Nearest(lambda x: x.flip(1)), few) == {}
    assert "channel_order" in alarms_of(Nearest(lambda x: x.flip(1)), doubtful)


def test_all_of_the_data_tells_the_form_where_few_images_are_measured():
    module, _, (name, _) = FORMS["normalised"]
    images = coloured(80)
    target = of_module(module, name="nearest")
    assert name not in {alarm.name for alarm in from_target(target, images[:4], seed=0)}
    assert name in {alarm.name for alarm in from_target(target, images[:4], seed=0, whole=images)}


@pytest.mark.parametrize("constant", [False, True])
def test_labels_that_are_mostly_alike_raise_nothing(constant):
    # Another form changes the answer of all images at once, to the class of most of them.
    images = coloured(80)
    labels = torch.zeros(80, dtype=torch.int64) if constant else images.labels.where(images.labels > 13, 0)
    assert alarms_of(Nearest(lambda x: 1 - x / 255), replace(images, labels=labels)) == {}


@pytest.mark.parametrize("name", ["resnet18_cifar", "vgg16_cifar"])
def test_networks_with_random_weights_raise_nothing(name):
    torch.manual_seed(0)
    model = timm.create_model(name, width=0.05, depth=0.1)
    assert alarms_of(model, data.load("digits", n=100), batch=50) == {}


def test_a_model_that_refuses_images_beyond_0_and_1_is_asked_for_the_other_forms_all_the_same():
    class Strict(Nearest):
        def forward(self, x):
            if x.min() < 0 or x.max() > 1:
                raise ValueError("expected images in [0, 1]")
            return super().forward(x)

    assert set(alarms_of(Strict(lambda x: x.flip(1)), coloured(80))) == {"channel_order"}
    with pytest.raises(TargetError, match="expected images in"):
        of_module(Strict(), name="strict").judge(torch.full((1, 3, 4, 4), 2.0))


class Counted:
    """A classifier that counts the images that it is asked for."""

    def __init__(self, classifier) -> None:
        self.classifier, self.images = classifier, 0

    def __call__(self, x):
        self.images += len(x)
        return self.classifier(x)


def test_the_fast_form_is_asked_for_all_forms_and_the_model_for_those_that_are_promising():
    judge, proposer = Counted(Nearest(lambda x: x.flip(1))), Counted(Nearest(lambda x: x.flip(1)))
    target = replace(of_module(Nearest(), name="nearest"), judge=judge, proposer=proposer)
    assert [alarm.name for alarm in from_inputs(target, coloured(80), batch=40)] == ["channel_order"]
    assert judge.images == 2 * 80
    assert proposer.images >= 5 * 80


def test_a_form_in_which_the_fast_form_alone_is_better_raises_nothing():
    dull, wrong = Nearest(lambda x: 0 * x), Nearest(lambda x: x.flip(1))
    assert from_inputs(replace(of_module(dull, name="nearest"), proposer=wrong), coloured(80), batch=40) == []
    assert from_inputs(of_module(wrong, name="nearest"), coloured(80), batch=40)


def test_batches_are_always_full():
    sizes = set()
    module = Nearest(lambda x: (sizes.add(len(x)), x.flip(1))[1])
    alarms_of(module, coloured(80), batch=30)
    assert sizes == {30}


def test_grey_images_of_one_channel_are_looked_at_without_an_order_of_channels():
    class Bright(nn.Module):
        def forward(self, x):
            return torch.cat([-x.mean((2, 3)), x.mean((2, 3))], dim=1)  # right where grey is 0

    values = torch.arange(100, 156, dtype=torch.uint8)
    grey = data.Images(values[:, None, None, None].expand(-1, 1, 4, 4).contiguous(), (values > 127).long(), "grey")
    assert set(alarms_of(Bright(), grey)) == {"normalisation"}


def test_the_queries_of_a_target_raise_these_alarms():
    module, _, (name, _) = FORMS["normalised"]
    assert name in probed(module, coloured(80))
