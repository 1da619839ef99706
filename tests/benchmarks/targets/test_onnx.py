"""ONNX Runtime judges a file, and what is rebuilt in torch proposes if it is the same function."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Fgsm, Pgd, Square, run
from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.probe import probed
from robnet_zoo.converters import onnx as converter
from robnet_zoo.converters.onnx import folding
from robnet_zoo.converters.onnx.classifier import ImageModule
from robnet_zoo.errors import TargetError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.forms.traced import Traced
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import state_sha256
from tests.benchmarks.targets.models import DIGITS, MEAN, NAME, STD
from tests.converters.onnx import quantised_files


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    converter.export(load_model(DIGITS), path)
    return path


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "int8.onnx"
    options = converter.ExportOptions(precision="int8")
    converter.export(load_model(DIGITS), path, options, images=data.load("digits", train=True))
    return path


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
    runs = []
    for name in (NAME, str(tmp_path / "m.onnx")):
        target = load_target(name, dtype="float32", device="cpu")
        outcomes = run(Pgd(steps=3), target.proposer, images, labels, eps=8 / 255, slots=20, judge=target.judge)
        runs.append([(outcome.fooled, outcome.step) for outcome in outcomes])
    assert runs[0] == runs[1]
    assert 0 < sum(fooled for fooled, _ in runs[0]) < 20


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_exported_file_is_attacked_through_its_network_in_float32_and_judged_itself(
    precision, tmp_path, digits, int8_file
):
    network, path = load_model(DIGITS), int8_file
    if precision != "int8":
        path = tmp_path / "m.onnx"
        converter.export(network, path, converter.ExportOptions(precision=precision))
    target = load_target(str(path), device="cpu")
    attacked = target.twin if precision == "int8" else target.proposer
    assert type(attacked).__name__ == "InferenceNetwork"
    assert {value.dtype for value in attacked.parameters()} == {torch.float32}
    session = converter.OnnxClassifier(path, provider="cpu")
    torch.testing.assert_close(target.judge(digits[0]), session(digits[0]), rtol=0, atol=0)
    identity = target.identity
    assert (identity.precision, identity.exported_from) == (precision, state_sha256(network.state_dict()))
    assert identity.parameters == sum(value.numel() for value in network.parameters())


def test_success_on_an_int8_file_is_the_files_and_not_its_twins(int8_file, digits):
    target = load_target(str(int8_file), device="cpu")
    outcomes = run(Pgd(steps=10), target.twin, *digits, eps=32 / 255, slots=20, judge=target.judge)
    fooled = [outcome for outcome in outcomes if outcome.fooled]
    assert 0 < len(fooled) < 20
    classes = target.judge(torch.stack([outcome.image for outcome in fooled])).argmax(1)
    assert (classes != digits[1][[outcome.sample for outcome in fooled]]).all()


def test_file_that_only_says_that_it_is_ours_is_attacked_through_its_own_graph(digits_file, tmp_path):
    proto = onnx.load(digits_file)
    proto.graph.node[-1].name = "changed"
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    target = load_target(str(path), device="cpu")
    assert isinstance(target.proposer, Traced)
    assert isinstance(target.proposer.classifier, ImageModule)
    assert (target.identity.precision, target.identity.exported_from, target.why_not) == (None, None, "")


def test_int8_file_of_a_network_other_than_its_metadata_says_is_looked_at_as_its_graph_alone(tmp_path, int8_file):
    proto = onnx.load(int8_file)
    for tensor in proto.graph.initializer:
        if tensor.name == "classifier.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32) * 100, tensor.name))
    proto.graph.node.append(helper.make_node("Neg", ["plain"], ["logits"]))
    next(node for node in proto.graph.node if "logits" in node.output).output[0] = "plain"
    onnx.save(proto, tmp_path / "m.onnx")
    target = load_target(str(tmp_path / "m.onnx"), device="cpu")
    assert [type(form).__name__ for form in (target.proposer, target.twin)] == ["ImageModule"] * 2
    assert target.identity.precision is None


def write(path, nodes, *, batch="n", kind=TensorProto.FLOAT, opset=17):
    """Write a file whose nodes lead from `x`, (N, 3, 2, 2), to `y`."""
    given = helper.make_tensor_value_info("x", kind, [batch, 3, 2, 2])
    graph = helper.make_graph(nodes, "g", [given], [helper.make_tensor_value_info("y", kind, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return str(path)


NODE = helper.make_node


IMAGES = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))


OF_TWELVE = data.Images((255 * IMAGES).byte(), torch.arange(7), "noise")  # classes, for files that flatten

FLATTEN = NODE("Flatten", ["x"], ["y"])


def test_gradients_that_pass_a_rounding_are_those_of_the_graph_itself(tmp_path):
    nodes = [
        NODE("Mul", ["x", "x"], ["square"]),
        NODE("Floor", ["square"], ["whole"]),
        NODE("Flatten", ["whole"], ["y"]),
    ]
    target = load_target(write(tmp_path / "m.onnx", nodes), device="cpu")
    x = (3 * IMAGES).requires_grad_()
    (gradient,) = torch.autograd.grad(target.proposer(x).sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach())


def test_foreign_file_gets_images_as_they_are_unless_mean_and_std_are_given(tmp_path):
    path = write(tmp_path / "m.onnx", [FLATTEN])
    plain, normalised = load_target(path, device="cpu"), load_target(path, mean=MEAN, std=STD, device="cpu")
    expected = (IMAGES - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert (plain.identity.mean, normalised.identity.mean) == (None, MEAN)
    for classifier in (plain.judge, plain.proposer):
        torch.testing.assert_close(classifier(IMAGES), IMAGES.flatten(1))
    for classifier in (normalised.judge, normalised.proposer):
        torch.testing.assert_close(classifier(IMAGES), expected.flatten(1))
    assert load_target(path, mean=(0.5,), std=(0.25,), device="cpu").identity.std == (0.25, 0.25, 0.25)
    with pytest.raises(TargetError, match="expected mean and std of 3 channels, got 2"):
        load_target(path, mean=(0.5, 0.5), std=(0.5, 0.5), device="cpu")


def test_a_file_whose_name_is_not_utf_8_is_refused_in_a_line(tmp_path):
    path = write(tmp_path / "m.onnx", [FLATTEN])
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx")
    os.rename(path, strange)
    with pytest.raises(TargetError, match="expected a path in UTF-8") as error:
        load_target(strange, device="cpu")
    assert str(error.value).isprintable()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_graph_of_a_foreign_file_proposes_in_its_traced_form(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5)
    ).eval()
    model[1].running_mean.uniform_(-1, 1)
    path, shown = tmp_path / "m.onnx", torch.rand(4, 3, 8, 8)
    options = {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"], "dynamo": False, "do_constant_folding": False}
    torch.onnx.export(model, (shown,), path, training=torch.onnx.TrainingMode.PRESERVE, **options)
    target = load_target(str(path), mean=MEAN, std=STD, device="cpu")
    looked = probed(target, shown)
    assert looked.proposer is target.proposer
    assert isinstance(looked.proposer, Traced)
    assert looked.why_not == looked.proposer.why_not == ""
    torch.testing.assert_close(looked.proposer(shown), looked.judge(shown), rtol=1e-4, atol=1e-5)
    gradients = [
        input_gradient(form, shown, torch.arange(4))[0] for form in (target.proposer, target.proposer.classifier)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    (graph,) = looked.proposer.graphs.values()
    assert torch.ops.aten.batch_norm.default not in {node.target for node in graph.graph.nodes}


@pytest.mark.parametrize("inside", [True, False])
def test_proposer_of_a_fixed_batch_takes_any_number_of_images(inside, tmp_path):
    # A constant in the graph holds it to its batch, or nothing does.
    shape = NODE("Constant", [], ["shape"], value_ints=[2, 12])
    nodes = [shape, NODE("Reshape", ["x", "shape"], ["y"])] if inside else [FLATTEN]
    target = load_target(write(tmp_path / "m.onnx", nodes, batch=2), device="cpu")
    assert isinstance(target.proposer, Traced)
    assert (target.proposer.classifier.batch is None) != inside
    images = IMAGES.clone().requires_grad_()
    logits = target.proposer(images)
    assert target.proposer.why_not == ""
    torch.testing.assert_close(logits.detach(), IMAGES.flatten(1))
    (gradient,) = torch.autograd.grad(logits[:, 5].sum(), images)
    expected = torch.zeros(7, 12).index_fill_(1, torch.tensor([5]), 1.0).view(7, 3, 2, 2)
    torch.testing.assert_close(gradient, expected)


NO_GRADIENT = {
    "an operation without a known gradient": (
        [NODE("Flatten", ["x"], ["f"]), NODE("RandomNormalLike", ["f"], ["y"])],
        "no gradient is known for the ONNX operator RandomNormalLike",
    ),
    "a comparison on the way": (
        [
            NODE("IsInf", ["x"], ["i"]),
            NODE("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            NODE("Flatten", ["f"], ["y"]),
        ],
        "its logits do not depend on the images by operations that have gradients; IsInf 'i' cut them off",
    ),
    "NaN logits": (
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
    wrong = dict(folding.OPERATORS) | {"Relu": lambda node, inputs: inputs[0].clamp(min=0) + 1e-3}
    monkeypatch.setattr(folding, "OPERATORS", wrong)
    target = load_target(write(tmp_path / "m.onnx", [NODE("Relu", ["x"], ["r"]), NODE("Flatten", ["r"], ["y"])]))
    assert target.proposer is None
    assert target.why_not == "its graph, rebuilt in torch, gives logits 0.001 away, more than 1e-05, first in Relu 'r'"


def test_an_operator_that_torch_refuses_is_named(tmp_path, monkeypatch):
    def refuse(node, inputs):
        raise ValueError("negative\nsize")

    monkeypatch.setattr(folding, "OPERATORS", dict(folding.OPERATORS) | {"Relu": refuse})
    target = load_target(write(tmp_path / "m.onnx", [NODE("Relu", ["x"], ["r"]), NODE("Flatten", ["r"], ["y"])]))
    assert target.why_not == "its graph cannot be rebuilt in torch: negative size in the ONNX operator Relu 'r'"
    with pytest.raises(TargetError) as raised:
        evaluate(target, OF_TWELVE, Protocol(name="p", attacks=(Fgsm(), Pgd(steps=1))))
    message = str(raised.value)
    assert "\n" not in message
    assert "Relu 'r'" in message
    assert message.endswith("the protocol `square` needs none, nor does `transfer` with another model as its --source")
    square = Protocol(name="s", attacks=(Square(queries=2),))
    assert evaluate(target, OF_TWELVE, square, progress=False).complete


@pytest.mark.parametrize("form", quantised_files.FORMS)
def test_an_operator_of_a_quantised_file_that_torch_computes_otherwise_is_named(form, tmp_path, monkeypatch):
    path = quantised_files.quantised(tmp_path, form)
    kinds = {node.op_type for node in onnx.load(path).graph.node} & {"DequantizeLinear", "QLinearConv", "ConvInteger"}
    real = dict(folding.OPERATORS)
    wrong = {kind: lambda node, inputs, kind=kind: 3 * real[kind](node, inputs) for kind in kinds}
    monkeypatch.setattr(folding, "OPERATORS", real | wrong)
    assert re.search(r"more than \S+, first in \w+ '\w+'$", load_target(path).why_not)


def test_a_foreign_float16_file_has_gradients_that_do_not_vanish(tmp_path):
    weight = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float16)
    nodes = [
        NODE("Flatten", ["x"], ["f"]),
        NODE("Constant", [], ["w"], value=onnx.numpy_helper.from_array(weight)),
        NODE("MatMul", ["f", "w"], ["m"]),
        NODE("Cast", ["m"], ["c"], to=TensorProto.FLOAT),
        NODE("Mul", ["c", "c"], ["s"]),
        NODE("Cast", ["s"], ["y"], to=TensorProto.FLOAT16),
    ]
    path = write(tmp_path / "m.onnx", nodes, kind=TensorProto.FLOAT16)
    target = load_target(path, device="cpu", dtype="float32")
    assert target.why_not == ""
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(1e-9 * target.proposer(images).sum(), images)
    pixels = IMAGES.flatten(1).clone().requires_grad_()
    ((pixels @ torch.from_numpy(weight).float()) ** 2).sum().backward()
    torch.testing.assert_close(gradient.flatten(1), 1e-9 * pixels.grad, rtol=1e-4, atol=0)


def test_a_float16_graph_that_torch_computes_otherwise_is_not_trusted(tmp_path, monkeypatch):
    wrong = dict(folding.OPERATORS) | {"Relu": lambda node, inputs: inputs[0].clamp(min=0) + 0.2}
    monkeypatch.setattr(folding, "OPERATORS", wrong)
    nodes = [NODE("Relu", ["x"], ["r"]), NODE("Flatten", ["r"], ["y"])]
    target = load_target(write(tmp_path / "m.onnx", nodes, kind=TensorProto.FLOAT16), device="cpu")
    assert target.why_not == "its graph, rebuilt in torch, gives logits 0.2 away, more than 0.05, first in Relu 'r'"


def test_of_several_outputs_the_name_chooses_one(tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [NODE("Flatten", ["x"], ["y"]), NODE("Neg", ["y"], ["z"])]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 2, 2])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"]
    graph = helper.make_graph(nodes, "g", [given], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(TargetError, match=r"m\.onnx: .* got y \(5, 12\), z \(5, 12\); m\.onnx:y \(output= in Python\)"):
        load_target(str(path))
    for name, sign in (("y", 1), ("z", -1)):
        target = load_target(f"{path}:{name}", device="cpu")
        assert target.name == f"{path}:{name}"
        torch.testing.assert_close(target.judge(IMAGES), sign * IMAGES.flatten(1))
        torch.testing.assert_close(target.proposer(IMAGES), sign * IMAGES.flatten(1))
    with pytest.raises(TargetError, match=r"expected the name of an output, got 'w'.* y, z"):
        load_target(f"{path}:w")


@pytest.mark.parametrize("form", quantised_files.FORMS)
def test_quantised_file_is_looked_at_straight_through_and_without_its_rounding(form, tmp_path):
    target = load_target(str(quantised_files.quantised(tmp_path, form)), device="cpu")
    images = torch.rand(8, *quantised_files.SHAPE, generator=torch.Generator().manual_seed(2), requires_grad=True)
    logits = target.judge(images.detach())
    torch.testing.assert_close(target.proposer(images.detach()), logits, rtol=0, atol=1e-6)  # the very integers
    assert not torch.equal(target.twin(images.detach()), logits)
    gradients = [
        torch.autograd.grad(classifier(images)[:, 0].sum(), images)[0].flatten(1)
        for classifier in target.forms_for(Pgd(), None)
    ]
    assert (gradients[0] != 0).any(1).all()
    assert torch.nn.functional.cosine_similarity(*gradients).min() > 0.5
    assert target.forms_for(Square(), None) == [target.judge]
    assert target.forms_for(Pgd(), ("twin",)) == [target.twin]


def test_file_of_ours_in_int8_is_looked_at_through_its_graph_and_through_its_network(int8_file):
    target = load_target(str(int8_file), device="cpu")
    assert (type(target.proposer).__name__, type(target.twin).__name__) == ("ImageModule", "InferenceNetwork")
    assert target.exact is None  # its weights have seven bits


def test_quantised_file_without_gradients_is_asked_in_other_ways_all_the_same(tmp_path, monkeypatch):
    pools = {"GlobalAveragePool", "com.microsoft.QLinearGlobalAveragePool"}
    known = {kind: operator for kind, operator in folding.OPERATORS.items() if kind not in pools}
    monkeypatch.setattr(folding, "OPERATORS", known)
    target = load_target(str(quantised_files.quantised(tmp_path, "qdq", seven_bits=False)), device="cpu")
    assert (target.proposer, target.twin) == (None, None)
    assert None not in (target.unoptimised, target.exact)


def test_file_in_float32_has_a_single_form(tmp_path):
    target = load_target(str(quantised_files.plain(tmp_path / "plain.onnx")), device="cpu")
    assert (target.twin, target.unoptimised, target.exact) == (None, None, None)
    assert target.forms_for(Pgd(), ("twin",)) == [target.proposer]
