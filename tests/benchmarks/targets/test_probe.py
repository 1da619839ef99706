"""A look at a target: a proposer of another function is not used, and a module without gradients has none."""

from __future__ import annotations

import copy
import io
from dataclasses import replace

import pytest
import torch
from torch import nn

from robnet_zoo.attacks import Ddn, Fgsm, Pgd, Square
from robnet_zoo.benchmarks.checks.results import from_target
from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.targets.probe import probed
from robnet_zoo.benchmarks.targets.target import is_narrow
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.data import Images
from robnet_zoo.errors import TargetError
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.forms.traced import Traced
from tests.brightness import Brightness
from tests.small_networks import SPECS, network_of

SHAPE = (3, 8, 8)
PIXELS = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = Images(PIXELS, torch.arange(20) % 2, "noise")
SHOWN = PIXELS[:4] / 255
GRADIENTS = Protocol(name="gradients", attacks=(Fgsm(), Pgd(steps=4)), batch=8, dtype="float32")
SQUARE = Protocol(name="square", attacks=(Square(queries=4),), batch=8)


class Rounding(Brightness):
    """Sees 8-bit pixels, by way of integers."""

    def forward(self, x):
        return super().forward((x * 255).round().to(torch.uint8).float() / 255)


class InNumpy(Brightness):
    def forward(self, x):
        return super().forward(torch.from_numpy(x.numpy().copy()))


class Forked(Brightness):
    """Gives logits of which the image is no part in the graph, though the parameter is."""

    def forward(self, x):
        return super().forward(x.detach()) * nn.functional.softplus(self.scale)


@pytest.fixture(scope="module")
def whole():
    return network_of(SPECS["identities alone"]).float()


@pytest.fixture
def network(whole):
    return copy.deepcopy(whole)


@pytest.mark.parametrize("name", ["every operation", "denoised, embedded_gaussian", "imagenet stem"])
@pytest.mark.parametrize("dtype", ["float32", torch.bfloat16])
def test_the_fast_form_of_a_network_as_it_was_built_is_used(name, dtype):
    network = network_of(SPECS[name]).float()
    target = of_module(network, name="n", dtype="float32")
    if dtype is torch.bfloat16:
        target = replace(target, proposer=for_inference(network, dtype=dtype))
    looked = probed(target, torch.rand(4, *network.spec.network.input_size))
    assert looked.proposer is target.proposer
    assert (looked.why_not, looked.output) == ("", "")
    assert probed(looked, SHOWN) is looked


def test_attacks_that_follow_small_changes_look_at_a_fast_form_in_float32_beside_one_in_bfloat16(network):
    target = of_module(network, name="n", dtype="float32")
    narrow = replace(target, proposer=for_inference(network, dtype=torch.bfloat16))
    assert probed(narrow, SHOWN).fine is None
    looked = probed(narrow, SHOWN, fine=True)
    for attack in (Square(), Ddn()):
        assert looked.form_for(attack) is looked.fine
    assert looked.form_for(Pgd()) is narrow.proposer
    assert looked.proposing_in("float32").proposer is looked.fine
    assert not is_narrow(looked.fine)
    with torch.no_grad():
        torch.testing.assert_close(looked.fine(SHOWN), looked.judge(SHOWN), rtol=1e-4, atol=1e-5)
    untrue = probed(replace(narrow, proposed_in=lambda dtype: lambda x: -target.proposer(x)), SHOWN, fine=True)
    assert (untrue.proposer, untrue.fine) == (narrow.proposer, None)
    assert untrue.form_for(Square()) is untrue.judge
    assert probed(target, SHOWN, fine=True).fine is None


def test_a_hooked_network_is_attacked_as_it_is_and_the_document_says_so(network):
    class Masked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return -x

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    plain = of_module(network, name="n", dtype="float32")
    network.register_forward_hook(lambda *given: Masked.apply(given[-1]))
    hooked = of_module(network, name="n", dtype="float32")
    assert hooked.proposer is hooked.judge
    assert (hooked.identity.spec_hash, hooked.identity.state_sha256) == (None, plain.identity.state_sha256)
    assert hooked.provenance is None
    torch.testing.assert_close(hooked.judge(SHOWN), -plain.judge(SHOWN))
    result = evaluate(hooked, IMAGES, GRADIENTS, progress=False)
    (text,) = (alarm.text for alarm in result.alarms if alarm.name == "no_fast_form")
    assert text == (
        "attacks look at the model itself: it has no fast form: expected a network as its spec builds it, got one that "
        "was changed: the network has a hook"
    )
    assert not any(result.measurement("pgd4").unconfirmed)


@pytest.mark.parametrize(
    "change",
    [
        lambda form: lambda x: 1.5 * form(x),
        lambda form: lambda x: -form(x),
        lambda form: lambda x: form(x)[:, :4],
        lambda form: lambda x: form(x) * torch.nan,
        lambda form: lambda x: form((x * 255).round() / 255),  # nearly the same answers, without a gradient
        lambda form: lambda x: form(x.detach()),
        lambda form: lambda x: form(torch.cat([x, x], 1)),
        lambda form: lambda x: form(torch.cat([x[:2], x[2:].detach()])),
    ],
)
def test_a_proposer_that_differs_from_its_judge_is_not_used(change, network):
    target = of_module(network, name="n", dtype="float32")
    looked = probed(replace(target, proposer=change(target.proposer)), SHOWN)
    assert looked.proposer is target.judge
    assert looked.why_not.startswith("its fast form is not used: ")
    assert {alarm.name for alarm in from_target(looked, IMAGES, seed=0)} >= {"no_fast_form"}


def test_a_rewired_network_is_caught_by_its_answers_too(network, monkeypatch):
    monkeypatch.setattr("robnet_zoo.nn.changes.change_in", lambda *_, **__: "")
    network.cells[0].concat = network.cells[0].concat[::-1]
    monkeypatch.setattr("robnet_zoo.nn.compiler.check_unchanged", lambda *_, **__: None)
    looked = probed(of_module(network, name="n", dtype="float32"), SHOWN)
    assert looked.proposer is looked.judge


@pytest.mark.parametrize("kind", [Rounding, InNumpy, Forked])
def test_a_module_without_gradients_is_a_target_without_a_proposer(kind):
    target = of_module(kind(), name="blind")
    result = evaluate(target, IMAGES, SQUARE, progress=False)
    assert result.accuracy("square") <= result.accuracy("clean")
    with pytest.raises(
        TargetError,
        match=r"blind: expected gradients for fgsm, pgd4, got none: its .*; the protocol `square` needs none",
    ):
        evaluate(target, IMAGES, GRADIENTS, progress=False)
    transfer = GRADIENTS.model_copy(update={"threat": "transfer"})
    source = of_module(Brightness(), name="source")
    (through,) = evaluate_transfer([target], source, IMAGES, transfer, progress=False)
    assert through.complete
    with pytest.raises(TargetError, match="blind: expected gradients for fgsm, pgd4, got none"):
        evaluate_transfer([source], target, IMAGES, transfer, progress=False)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.filterwarnings(
    "ignore:torch.ao.quantization is deprecated", "ignore:.*:DeprecationWarning", "ignore:.*reduce_range"
)
def test_int8_modules_are_targets_without_a_proposer_whose_weights_are_told_apart(dynamic):
    quantization = pytest.importorskip("torch.ao.quantization")

    def quantised(seed):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)]
        if dynamic:
            return quantization.quantize_dynamic(nn.Sequential(*layers).eval(), {nn.Linear})
        model = nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
        model.qconfig = quantization.get_default_qconfig("fbgemm")
        prepared = quantization.prepare(model)
        prepared(SHOWN)
        return quantization.convert(prepared)

    target = of_module(quantised(0), name="int8")
    assert evaluate(target, IMAGES, SQUARE, progress=False).complete
    assert probed(target, SHOWN).proposer is None
    assert target.identity == of_module(quantised(0), name="int8").identity
    assert target.identity.weights != of_module(quantised(1), name="int8").identity.weights


class Small(nn.Module):
    """A convolution, a batch norm and a head: the smallest foreign module with something to fold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


def test_a_foreign_module_proposes_in_its_traced_form_and_is_judged_as_it_is():
    model = Small().train()
    looked = probed(of_module(model, name="m", mean=(0.5,) * 3, std=(0.25,) * 3, dtype="float32"), SHOWN)
    assert isinstance(looked.proposer, Traced)
    assert looked.proposer.classifier is looked.judge
    assert (looked.why_not, model.training, model.conv.weight.requires_grad) == ("", True, True)
    torch.testing.assert_close(looked.proposer(SHOWN), looked.judge(SHOWN), rtol=1e-4, atol=1e-5)
    result = evaluate(looked, IMAGES, GRADIENTS, progress=False)
    itself = evaluate(replace(looked, proposer=looked.judge), IMAGES, GRADIENTS, progress=False)
    assert [m.correct for m in result.measurements] == [m.correct for m in itself.measurements]


def test_a_foreign_module_without_a_traced_form_is_attacked_itself_and_the_document_says_so():
    class Deciding(Small):
        def forward(self, x):
            return super().forward(x) * (2 if x.sum() > 0 else 1)

    result = evaluate(of_module(Deciding(), name="m"), IMAGES, GRADIENTS, progress=False)
    (text,) = (alarm.text for alarm in result.alarms if alarm.name == "no_fast_form")
    assert text.startswith("attacks look at the model itself: its fast form is not used: it cannot be traced: ")
    assert "\n" not in text


def test_a_module_whose_gradients_are_hooked_has_no_traced_form():
    model = Small()
    model.norm.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 2,))
    looked = probed(of_module(model, name="m", dtype="float32"), SHOWN)
    assert looked.proposer is looked.judge
    assert looked.why_not.startswith("its fast form is not used: its graph is of another function for images that it ")
    assert ": its gradients of 4 of 4 images are " in looked.why_not


SCRIPTS = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, SHOWN),
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_torchscript_modules_are_targets_with_gradients(name):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    script = SCRIPTS[name](module.eval())
    target = of_module(script, name="m", mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.testing.assert_close(target.judge(SHOWN), module((SHOWN - 0.5) / 0.25).detach())
    result = evaluate(target, IMAGES, GRADIENTS, progress=False)
    expected = evaluate(
        of_module(module, name="m", mean=(0.5,) * 3, std=(0.25,) * 3), IMAGES, GRADIENTS, progress=False
    )
    assert [m.correct for m in result.measurements] == [m.correct for m in expected.measurements]
    again = torch.jit.load(io.BytesIO(script.save_to_buffer()))
    assert of_module(again, name="m").identity.weights == target.identity.weights
    with torch.no_grad():
        module[4].bias += 1
    assert of_module(SCRIPTS[name](module), name="m").identity.weights != target.identity.weights


def test_what_counts_as_logits_is_said_in_the_document():
    class Pair(Brightness):
        def forward(self, x):
            return {"logits": super().forward(x), "hidden": x.flatten(1)}

    result = evaluate(of_module(Pair(), name="pair"), IMAGES, GRADIENTS, progress=False)
    (text,) = (alarm.text for alarm in result.alarms if alarm.name == "output_chosen")
    assert text == "of its output, dict(logits (4, 2), hidden (4, 192)), `logits` counts as logits"
    plain = evaluate(of_module(Brightness(), name="plain"), IMAGES, GRADIENTS, progress=False)
    assert [m.correct for m in result.measurements] == [m.correct for m in plain.measurements]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(0), r"m: expected logits \(N, K\) with K of 2 or more, got \(768,\)"),
        (nn.Linear(7, 2), r"m: expected a model of images \(3, 8, 8\), got: mat1 and mat2"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), r"m: expected logits .* got \(4, 1\)"),
    ],
)
def test_modules_that_are_no_classifiers_of_these_images_are_refused_in_one_line(module, message):
    with pytest.raises(TargetError, match=message) as caught:
        evaluate(of_module(module, name="m"), IMAGES, SQUARE, progress=False)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_module_is_refused():
    with pytest.raises(TargetError, match="m: expected a torch module, got function"):
        of_module(lambda x: x, name="m")
