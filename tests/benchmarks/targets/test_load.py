"""Every way of naming a model gives the function that is meant, judged in float32, with gradients where it has any."""

import json
import os
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Pgd, run
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.converters import onnx as converter
from robnet_zoo.converters.onnx import to_torch
from robnet_zoo.errors import TargetError
from robnet_zoo.zoo.registry import load_model, load_spec
from robnet_zoo.zoo.weights import FOLDER, state_sha256
from tools import committed

NAME, DIGITS = "robnet_micro.cifar10", "robnet_micro.digits"
WEIGHTS = FOLDER / "robnet_micro.digits.safetensors"
MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 2.0)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", n=20).batch(slice(None))


@pytest.fixture(scope="module")
def digits_logits(digits):
    with torch.no_grad():
        return load_model(DIGITS)(digits[0])


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    converter.export(load_model(DIGITS), path)
    return path


class Means(nn.Module):
    """The means of the channels as logits, of which a batch norm in training mode would change the scale."""

    def __init__(self, channels=3):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=0.0)
        self.dropout = nn.Dropout(0.9)

    def forward(self, x):
        return self.dropout(self.norm(x)).mean((2, 3))


def folder_of_training(path):
    path.mkdir()
    shutil.copy(WEIGHTS, path / "model.safetensors")
    load_spec("robnet_micro").save(path / "spec.json")
    return path


def folder_of_timm(path):
    timm.models.save_for_hf(timm.create_model(DIGITS, pretrained=True), path, safe_serialization=True)
    return path


WAYS = {
    "a timm name": lambda path: ((DIGITS,), {}),
    "a timm name with weights": lambda path: ((NAME,), {"weights": WEIGHTS}),
    "a spec's name": lambda path: (("robnet_micro",), {"weights": WEIGHTS}),
    "a spec's path": lambda path: ((str(folder_of_training(path) / "spec.json"),), {"weights": WEIGHTS}),
    "a folder of training": lambda path: ((str(folder_of_training(path)),), {}),
    "a folder of timm": lambda path: ((str(folder_of_timm(path)),), {}),
    "local-dir": lambda path: ((f"local-dir:{folder_of_timm(path)}",), {}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_of_naming_our_model_gives_the_same_function(way, digits, digits_logits, tmp_path):
    arguments, options = way(tmp_path / "folder")
    target = load_target(*arguments, **options, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(target.judge(digits[0]), digits_logits, rtol=0, atol=0)
    assert target.identity.state_sha256 == state_sha256(load_model(DIGITS).state_dict())
    assert target.identity.spec_hash == load_spec("robnet_micro").hash
    assert (target.num_classes, target.input_size, target.identity.mean) == (10, (3, 32, 32), None)


def test_hash_of_bundled_weights_is_the_one_in_committed_results():
    for name in (NAME, DIGITS):
        stated = Result.load(committed.ROBUSTNESS / f"{name}.json")
        assert load_target(name, device="cpu").identity.state_sha256 == stated.model.state_sha256


def test_hash_ignores_what_is_no_part_of_the_function():
    first, second = Means(), Means()
    second.norm.num_batches_tracked += 7
    assert state_sha256(first.state_dict()) == state_sha256(second.double().state_dict())
    second.norm.running_mean += 1
    assert state_sha256(first.state_dict()) != state_sha256(second.state_dict())


def test_judge_is_in_float32_and_proposer_in_the_dtype_asked_for(monkeypatch, digits, digits_logits):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: True)
    target = load_target(DIGITS, dtype="bfloat16", device="cpu")
    assert {value.dtype for value in target.judge.parameters()} == {torch.float32}
    assert torch.bfloat16 in {value.dtype for value in target.proposer.parameters()}
    assert not any(value.requires_grad for value in [*target.judge.parameters(), *target.proposer.parameters()])
    exact = load_target(DIGITS, dtype="float32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(exact.proposer(digits[0]), digits_logits, rtol=1e-4, atol=1e-5)


def test_module_is_judged_in_eval_mode_and_left_as_it_was():
    model = Means().double()
    model.norm.running_mean += torch.tensor([0.1, 0.2, 0.3])
    model.norm.weight.requires_grad_(False)
    target = of_module(model, name="means")
    images = torch.rand(4, 3, 5, 5, requires_grad=True)
    expected = images.detach().mean((2, 3)) - torch.tensor([0.1, 0.2, 0.3])
    logits = target.judge(images)
    torch.testing.assert_close(logits.detach(), expected)
    logits.sum().backward()
    assert images.grad is not None
    assert (model.training, model.norm.training, model.norm.num_batches_tracked.item()) == (True, True, 0)
    assert (model.norm.weight.requires_grad, model.norm.bias.requires_grad) == (False, True)
    assert (model.norm.weight.dtype, model.norm.bias.grad) == (torch.float64, None)
    assert all(value.grad is None for value in target.judge.parameters())


def test_training_after_the_target_was_made_does_not_change_it():
    model = Means()
    target = of_module(model, name="means")
    with torch.no_grad():
        model.norm.bias += 1
    torch.testing.assert_close(target.judge(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3))


def test_module_that_cannot_be_copied_is_refused():
    model = nn.Conv2d(3, 2, 1)
    model.scaled = model.weight * 2  # not a leaf: deepcopy refuses it
    with pytest.raises(TargetError, match="m: expected a model that can be copied, got: "):
        of_module(model, name="m")


def test_number_of_classes_is_taken_as_given_or_as_the_module_says():
    model = Means()
    assert of_module(model, name="m").num_classes is None
    assert of_module(model, name="m", num_classes=3).num_classes == 3
    model.num_classes = 3
    assert of_module(model, name="m").num_classes == 3
    headless = timm.create_model("robnet_micro", num_classes=0)
    with pytest.raises(TargetError, match="m: expected a model that gives logits, got one without head"):
        of_module(headless, name="m")


def test_network_as_a_module_gets_its_fast_form():
    target = of_module(load_model(DIGITS), name="digits")
    assert type(target.proposer).__name__ == "InferenceNetwork"
    assert target.identity.spec_hash == load_spec("robnet_micro").hash


def test_normalisation_happens_inside_and_is_recorded():
    target = of_module(Means(), name="means", mean=MEAN, std=STD)
    images = torch.rand(4, 3, 5, 5)
    expected = (images.mean((2, 3)) - torch.tensor(MEAN)) / torch.tensor(STD)
    for classifier in (target.judge, target.proposer):
        torch.testing.assert_close(classifier(images), expected)
    assert (target.identity.mean, target.identity.std) == (MEAN, STD)


def test_images_of_other_channels_than_mean_and_std_are_refused():
    target = of_module(Means(), name="means", mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="expected images of 3 channels, as mean and std, got 1"):
        target.judge(torch.rand(4, 1, 5, 5))


@pytest.mark.parametrize(
    ("mean", "std"),
    [(MEAN, None), (None, STD), (MEAN, STD[:2]), ((), ()), (MEAN, (1, 0, 1)), ((0, 0, float("nan")), STD)],
)
def test_unusable_mean_and_std_are_refused(mean, std):
    with pytest.raises(TargetError, match=r"means: expected (mean and std, a number a channel|finite means)"):
        of_module(Means(), name="means", mean=mean, std=std)


@pytest.fixture(scope="module")
def resnet_weights(tmp_path_factory):
    """A file of a small foreign network with a head for 5 classes, and the network."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=5).eval()
    path = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def test_foreign_timm_model_normalises_as_its_configuration_says(resnet_weights):
    path, model = resnet_weights
    target = load_target("resnet10t", weights=path, device="cpu")
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    assert mean.max() > 0.4
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model((images - mean) / std))
    assert target.identity.mean == model.pretrained_cfg["mean"]
    assert (target.num_classes, target.input_size, target.identity.spec_hash) == (5, None, None)


def test_given_mean_and_std_replace_a_models_own(resnet_weights):
    path, model = resnet_weights
    target = load_target("resnet10t", weights=path, mean=(0, 0, 0), std=(1, 1, 1), device="cpu")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model(images))
    assert (target.identity.mean, target.identity.std) == ((0, 0, 0), (1, 1, 1))


def test_foreign_model_of_unknown_normalisation_is_refused_with_what_to_give(resnet_weights, tmp_path):
    _, model = resnet_weights
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TargetError, match=r"expected to know how its inputs are normalised, .*: give mean and std"):
        load_target(str(tmp_path), device="cpu")
    assert load_target(str(tmp_path), mean=MEAN, std=STD, device="cpu").identity.mean == MEAN


def test_exported_file_is_judged_by_runtime_and_known_by_file_and_spec(digits_file, digits, digits_logits):
    target = load_target(str(digits_file), device="cpu")
    torch.testing.assert_close(target.judge(digits[0]), digits_logits, rtol=1e-4, atol=1e-5)
    assert (target.identity.kind, target.identity.name) == ("onnx", str(digits_file))
    assert target.identity.spec_hash == load_spec("robnet_micro").hash
    assert (target.num_classes, target.input_size, target.why_not) == (10, (3, 32, 32), "")


def test_exported_file_has_the_input_gradients_of_its_network(digits_file, digits):
    images, labels = digits[0][:5].clone().requires_grad_(), digits[1][:5]
    proposer = load_target(str(digits_file), device="cpu").proposer
    gradients = [
        torch.autograd.grad(nn.functional.cross_entropy(model(images), labels, reduction="sum"), images)[0]
        for model in (load_model(DIGITS), proposer)
    ]
    scale = gradients[0].abs().max()
    torch.testing.assert_close(gradients[1] / scale, gradients[0] / scale, rtol=1e-3, atol=1e-4)


def test_white_box_pgd_decides_alike_on_a_model_and_on_its_exported_file(tmp_path):
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        pytest.skip("ROBNET_ZOO_DATA does not name the folder with cifar10_test1k.npz")
    images, labels = data.load(Path(folder) / "cifar10_test1k.npz", n=20).batch(slice(None))
    converter.export(load_model(NAME), tmp_path / "m.onnx")
    found = []
    for name in (NAME, str(tmp_path / "m.onnx")):
        target = load_target(name, dtype="float32", device="cpu")
        outcomes = run(Pgd(steps=3), target.proposer, images, labels, eps=8 / 255, slots=20, judge=target.judge)
        found.append([(outcome.fooled, outcome.step) for outcome in outcomes])
    assert found[0] == found[1]
    assert 0 < sum(fooled for fooled, _ in found[0]) < 20


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_exported_file_is_attacked_through_its_network_in_float32_and_judged_itself(precision, tmp_path, digits):
    network = load_model(DIGITS)
    options = converter.ExportOptions(precision=precision)
    converter.export(network, tmp_path / "m.onnx", options, images=data.load("digits", train=True))
    target = load_target(str(tmp_path / "m.onnx"), device="cpu")
    assert type(target.proposer).__name__ == "InferenceNetwork"
    assert {value.dtype for value in target.proposer.parameters()} == {torch.float32}
    session = converter.OnnxClassifier(tmp_path / "m.onnx", provider="cpu")
    torch.testing.assert_close(target.judge(digits[0]), session(digits[0]), rtol=0, atol=0)
    identity = target.identity
    assert (identity.precision, identity.exported_from) == (precision, state_sha256(network.state_dict()))
    assert identity.parameters == sum(value.numel() for value in network.parameters())


def test_success_on_an_int8_file_is_the_files_and_not_its_twins(tmp_path, digits):
    options = converter.ExportOptions(precision="int8")
    converter.export(load_model(DIGITS), tmp_path / "m.onnx", options, images=data.load("digits", train=True))
    target = load_target(str(tmp_path / "m.onnx"), device="cpu")
    outcomes = run(Pgd(steps=10), target.proposer, *digits, eps=32 / 255, slots=20, judge=target.judge)
    fooled = [outcome for outcome in outcomes if outcome.fooled]
    assert 0 < len(fooled) < 20
    found = target.judge(torch.stack([outcome.image for outcome in fooled])).argmax(1)
    assert (found != digits[1][[outcome.sample for outcome in fooled]]).all()


def test_file_that_only_says_that_it_is_ours_is_attacked_through_its_own_graph(digits_file, tmp_path):
    proto = onnx.load(digits_file)
    proto.graph.node[-1].name = "changed"
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    target = load_target(str(path), device="cpu")
    assert type(target.proposer).__name__ == "_ImageModule"
    assert (target.identity.precision, target.identity.exported_from, target.why_not) == (None, None, "")


def test_int8_file_of_a_network_other_than_its_metadata_says_has_no_proposer(tmp_path, monkeypatch):
    options, training = converter.ExportOptions(precision="int8"), data.load("digits", train=True)
    converter.export(load_model(DIGITS), tmp_path / "m.onnx", options, images=training)
    proto = onnx.load(tmp_path / "m.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == "classifier.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32) * 100, tensor.name))
    proto.graph.node.append(helper.make_node("Neg", ["plain"], ["logits"]))
    next(node for node in proto.graph.node if "logits" in node.output).output[0] = "plain"
    onnx.save(proto, tmp_path / "m.onnx")
    target = load_target(str(tmp_path / "m.onnx"), device="cpu")
    assert target.proposer is None
    assert "its network, rebuilt in torch, gives logits" in target.why_not


def write(path, nodes, *, batch="n", kind=TensorProto.FLOAT, opset=17):
    """A file whose nodes lead from `x`, (N, 3, 2, 2), to `y`."""
    given = helper.make_tensor_value_info("x", kind, [batch, 3, 2, 2])
    graph = helper.make_graph(nodes, "g", [given], [helper.make_tensor_value_info("y", kind, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return str(path)


NODE = helper.make_node
IMAGES = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))
FLATTEN = NODE("Flatten", ["x"], ["y"])


def test_foreign_file_gets_images_as_they_are_unless_mean_and_std_are_given(tmp_path):
    path = write(tmp_path / "m.onnx", [FLATTEN])
    plain, normalised = load_target(path, device="cpu"), load_target(path, mean=MEAN, std=STD, device="cpu")
    expected = (IMAGES - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert (plain.identity.mean, normalised.identity.mean) == (None, MEAN)
    for classifier in (plain.judge, plain.proposer):
        torch.testing.assert_close(classifier(IMAGES), IMAGES.flatten(1))
    for classifier in (normalised.judge, normalised.proposer):
        torch.testing.assert_close(classifier(IMAGES), expected.flatten(1))
    with pytest.raises(TargetError, match="expected mean and std of 3 channels, got 1"):
        load_target(path, mean=(0.5,), std=(0.5,), device="cpu")


@pytest.mark.parametrize("inside", [True, False])
def test_proposer_of_a_fixed_batch_takes_any_number_of_images(inside, tmp_path):
    """A constant in the graph holds it to its batch, or nothing does."""
    shape = NODE("Constant", [], ["shape"], value_ints=[2, 12])
    nodes = [shape, NODE("Reshape", ["x", "shape"], ["y"])] if inside else [FLATTEN]
    target = load_target(write(tmp_path / "m.onnx", nodes, batch=2), device="cpu")
    assert target.proposer is not None
    assert (target.proposer.batch is None) != inside
    images = IMAGES.clone().requires_grad_()
    logits = target.proposer(images)
    torch.testing.assert_close(logits.detach(), IMAGES.flatten(1))
    (gradient,) = torch.autograd.grad(logits[:, 5].sum(), images)
    expected = torch.zeros(7, 12).index_fill_(1, torch.tensor([5]), 1.0).view(7, 3, 2, 2)
    torch.testing.assert_close(gradient, expected)


NO_GRADIENT = {
    "an operation without a known gradient": (
        [NODE("Round", ["x"], ["r"]), NODE("Flatten", ["r"], ["y"])],
        "no gradient is known for the ONNX operators Round",
    ),
    "integers on the way": (
        [
            NODE("Cast", ["x"], ["i"], to=TensorProto.INT64),
            NODE("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            NODE("Flatten", ["f"], ["y"]),
        ],
        "its logits do not depend on the images by operations that have gradients",
    ),
    "logits that are no numbers": (
        [NODE("Neg", ["x"], ["n"]), NODE("Log", ["n"], ["l"]), NODE("Flatten", ["l"], ["y"])],
        "its graph, rebuilt in torch, gives logits nan away",
    ),
}


@pytest.mark.parametrize(("nodes", "reason"), NO_GRADIENT.values(), ids=NO_GRADIENT)
def test_file_whose_gradient_cannot_be_had_is_judged_and_says_why(nodes, reason, tmp_path):
    target = load_target(write(tmp_path / "m.onnx", nodes), device="cpu")
    assert target.proposer is None
    assert target.why_not.startswith(reason)
    assert target.judge(IMAGES).shape == (7, 12)


def test_graph_that_torch_computes_otherwise_is_not_trusted(tmp_path, monkeypatch):
    wrong = dict(to_torch.OPERATORS) | {"Relu": lambda node, inputs: inputs[0].clamp(min=0) + 1e-3}
    monkeypatch.setattr(to_torch, "OPERATORS", wrong)
    target = load_target(write(tmp_path / "m.onnx", [NODE("Relu", ["x"], ["r"]), NODE("Flatten", ["r"], ["y"])]))
    assert target.proposer is None
    assert target.why_not == "its graph, rebuilt in torch, gives logits 0.001 away, more than 1e-05"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("robnet_mirco", {}, "robnet_mirco: neither an ONNX file.*, did you mean 'robnet_micro'"),
        ("robnet_large", {}, "no weights of robnet_large are bundled: train them"),
        ("nowhere/model.onnx", {}, "nowhere/model.onnx: cannot be read: No such file"),
        ("nowhere/model.onnx", {"weights": WEIGHTS}, "an ONNX file brings its own weights"),
        ("nowhere/spec.json", {}, "expected weights for this spec"),
        ("robnet_free", {"weights": WEIGHTS}, "expected weights of robnet_free, got"),
        ("resnet10t", {"weights": WEIGHTS}, "expected weights of resnet10t, got no conv1"),
        ("robnet_micro", {"weights": Path("nowhere.safetensors")}, "nowhere.safetensors: expected a safetensors file"),
        ("resnet18.nope", {}, "timm cannot load it: .*; a safetensors file can be given as weights instead"),
        ("local-dir:nowhere", {}, "timm cannot load it: "),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(name, options, message):
    with pytest.raises(TargetError, match=message) as caught:
        load_target(name, **options, device="cpu")
    assert str(caught.value).isprintable()


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(
        TargetError, match=r"expected a folder with model\.safetensors and spec\.json, model\.json or config\.json"
    ):
        load_target(str(tmp_path))
    load_spec("robnet_micro").save(tmp_path / "spec.json")
    with pytest.raises(TargetError, match=r"model\.safetensors: expected a safetensors file, got: No such file"):
        load_target(str(tmp_path))


def test_result_says_where_the_model_of_a_spec_comes_from():
    assert load_target("robnet_micro.cifar10").provenance == load_spec("robnet_micro").provenance.source
    assert of_module(nn.Flatten(), name="f").provenance is None


# RobustBench


def test_a_model_of_robustbench_stands_by_its_name_where_the_package_is(monkeypatch) -> None:
    asked = {}

    def load_model(**given: str) -> nn.Module:
        asked.update(given)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))

    package = types.ModuleType("robustbench.utils")
    package.load_model = load_model
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", package)
    target = load_target("robustbench:cifar100/Linf/Wu2020Adversarial", device="cpu")
    assert asked == {"model_name": "Wu2020Adversarial", "dataset": "cifar100", "threat_model": "Linf"}
    assert target.judge(torch.rand(3, 3, 2, 2)).shape == (3, 5)
    load_target("robustbench:Carmon2019Unlabeled", device="cpu")
    assert asked == {"model_name": "Carmon2019Unlabeled", "dataset": "cifar10", "threat_model": "Linf"}


def test_without_its_package_a_model_of_robustbench_is_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(TargetError, match=r"^robustbench:Carmon2019Unlabeled: expected the package robustbench to be"):
        load_target("robustbench:Carmon2019Unlabeled")
