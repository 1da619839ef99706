"""Graphs in torch give what the ONNX standard's own examples say and what ONNX Runtime computes."""

import importlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from robnet_zoo.converters.onnx.operators import OPERATIONS
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError

# The standard's examples are made when their modules are imported; those of the pools take seconds, so pools are
# compared with ONNX Runtime below, as is Cast, whose examples are of types that numpy does not have.
WITH_EXAMPLES = sorted(OPERATIONS.keys() - {"AveragePool", "MaxPool", "Cast", "Constant"})
MODULES = {"BatchNormalization": "batch_normalization"}  # where it is not the operation's name in lower case
TYPES = ("uint", "int8", "int16", "bool", "string", "sequence", "opt")  # that classifiers of images do not use
LEFT_OUT = (*TYPES, "training", "empty", "edge", "reflect", "wrap")


def examples(kind):
    """(model, inputs, expected output) of the standard's examples of one operation."""
    node = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module(f"onnx.backend.test.case.node.{MODULES.get(kind, kind.lower())}")
    for case in node._NodeTestCases:
        if [entry.op_type for entry in case.model.graph.node] == [kind] and not any(w in case.name for w in LEFT_OUT):
            inputs, outputs = case.data_sets[0]
            yield case.model, inputs, outputs[0]


def single(kind, shape=(2, 3, 7, 6), *constants, opset=20, outputs=1, **attributes):
    """A model of one node: its first input of this shape, the others constants, and `outputs` outputs."""
    names = ["" if value is None else f"c{i}" for i, value in enumerate(constants)]
    initializers = [numpy_helper.from_array(np.asarray(v), n) for v, n in zip(constants, names, strict=True) if n]
    node = helper.make_node(kind, ["x", *names], [f"y{i}" for i in range(outputs)], **attributes)
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "single", [given], results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def by_runtime(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})


@pytest.mark.parametrize("kind", WITH_EXAMPLES)
def test_operation_computes_what_the_standards_examples_say(kind):
    count = 0
    for model, inputs, expected in examples(kind):
        constant = onnx.ModelProto()
        constant.CopyFrom(model)
        for value, array in zip(model.graph.input[1:], inputs[1:], strict=True):
            constant.graph.initializer.append(numpy_helper.from_array(array, value.name))
        found = GraphModule(constant)(torch.from_numpy(np.array(inputs[0]))).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, strict=True)
        count += 1
    assert count


AXES = np.array([1, 2], dtype=np.int64)
BY_VERSION = {
    "Clip with attributes": single("Clip", opset=7, min=0.2, max=0.6),
    "Clip without an upper bound": single("Clip", (2, 5), np.float32(0.5), None, opset=11),
    "Dropout with a ratio": single("Dropout", opset=11, ratio=0.5),
    "Pad with attributes": single("Pad", opset=7, pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5),
    "Pad that crops": single("Pad", (2, 3, 7, 6), np.array([0, 0, -1, 0, 0, 0, 0, -2], dtype=np.int64), opset=13),
    "ReduceMean with attributes": single("ReduceMean", opset=13, axes=[2, 3], keepdims=0),
    "ReduceMean with an input": single("ReduceMean", (2, 3, 7, 6), AXES, opset=18),
    "Slice with attributes": single("Slice", opset=7, axes=[1, 3], starts=[1, -4], ends=[1000, -1]),
    "Slice backwards": single(
        "Slice", (2, 9), *(np.array([v], dtype=np.int64) for v in (-1, -(2**62), 1, -2)), opset=13
    ),
    "Softmax over all that follows an axis": single("Softmax", opset=11),
    "Softmax over the last axis": single("Softmax", opset=13),
    "LogSoftmax over all that follows an axis": single("LogSoftmax", opset=11, axis=2),
    "Split with attributes": single("Split", opset=11, axis=1, split=[1, 2], outputs=2),
    "Split into equal parts": single("Split", opset=18, axis=3, num_outputs=3, outputs=3),
    "Squeeze with attributes": single("Squeeze", (2, 1, 3, 1), opset=11, axes=[1, 3]),
    "Unsqueeze with attributes": single("Unsqueeze", (2, 3), opset=11, axes=[0, 3]),
    "Cast to float16": single("Cast", opset=13, to=TensorProto.FLOAT16),
    "Reshape that keeps axes": single("Reshape", (2, 3, 7, 6), np.array([0, -1, 6], dtype=np.int64), opset=13),
    "Flatten before a negative axis": single("Flatten", opset=13, axis=-1),
}
CONV = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
WINDOWS = {
    "Conv, one-sided padding": single("Conv", (2, 3, 7, 6), CONV, pads=[2, 0, 1, 1], strides=[2, 1]),
    "Conv, same upper": single("Conv", (2, 3, 7, 6), CONV, auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv, same lower": single("Conv", (2, 3, 7, 6), CONV, auto_pad="SAME_LOWER", strides=[2, 1]),
    "Conv, valid": single("Conv", (2, 3, 7, 6), CONV, auto_pad="VALID", dilations=[2, 1]),
    "MaxPool": single("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool, one-sided padding": single("MaxPool", kernel_shape=[2, 3], pads=[1, 0, 0, 2]),
    "MaxPool, ceiling": single("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool, dilated": single("MaxPool", kernel_shape=[2, 2], dilations=[3, 2]),
    "MaxPool, same lower": single("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    "AveragePool": single("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool, padding counted": single("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    "AveragePool, one-sided padding": single("AveragePool", kernel_shape=[2, 3], pads=[1, 0, 0, 2]),
    "AveragePool, one-sided and counted": single(
        "AveragePool", kernel_shape=[2, 3], pads=[1, 0, 0, 2], count_include_pad=1
    ),
    "AveragePool, same upper": single("AveragePool", kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool, ceiling": single("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
}


@pytest.mark.parametrize("model", [*BY_VERSION.values(), *WINDOWS.values()], ids=[*BY_VERSION, *WINDOWS])
def test_operation_computes_what_onnx_runtime_does(model):
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for value, expected in zip(model.graph.output, by_runtime(_typed(model), x), strict=True):
        found = GraphModule(model, output=value.name)(x).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, strict=True)


def _typed(model):
    """The model with the output type that Cast gives."""
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "to":
            model.graph.output[0].type.tensor_type.elem_type = attribute.i
    return model


class Everything(nn.Module):
    """The layers of common classifiers in one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.Hardswish(), nn.MaxPool2d(2))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.norm = nn.LayerNorm(16)
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(16, 12), nn.GELU(), nn.LeakyReLU(0.2), nn.Linear(12, 5))

    def forward(self, x):
        x = self.wide(self.stem((x - 0.5) / 0.25))
        x = torch.cat([x * self.gate(x), nn.functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))], dim=1)
        return self.head(self.norm(x.mean((2, 3)).view(x.size(0), -1))).log_softmax(1)


def exported(model, x, path, *, opset, dynamo=False):
    options = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}}
    torch.onnx.export(
        model, (x,), path, input_names=["x"], opset_version=opset, dynamo=dynamo, verbose=False, **options
    )
    return onnx.load(path)


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    model = Everything()
    model.train()(torch.rand(16, 3, 16, 16))  # statistics of the batch norm
    return model.eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize(
    ("opset", "dynamo"),
    [
        (11, False),
        (13, False),
        (17, False),
        pytest.param(20, True, marks=pytest.mark.slow),  # torch's newer exporter takes so long to start
    ],
)
def test_exported_model_has_torchs_logits_and_input_gradients(everything, opset, dynamo, tmp_path):
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    graph = GraphModule(exported(everything, x.detach(), tmp_path / "m.onnx", opset=opset, dynamo=dynamo))
    for images in (x, x[:3].detach().requires_grad_()):
        expected, found = everything(images), graph(images)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        gradients = [torch.autograd.grad(y[:, 1].sum(), images)[0] for y in (expected, found)]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_every_unknown_operation_that_the_output_needs_is_named():
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Round", ["x"], ["a"]),
        helper.make_node("Sign", ["a"], ["b"]),
        helper.make_node("Mystery", ["b"], ["y"], domain="acme"),
        helper.make_node("Ceil", ["x"], ["unread"]),
    ]
    shapes = [value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1])]
    model = helper.make_model(helper.make_graph(nodes, "unknown", shapes[:1], shapes[1:]))
    with pytest.raises(UnsupportedError, match=r"of the ONNX operations Round, Sign, acme\.Mystery$"):
        GraphModule(model)


def test_form_of_an_operation_that_torch_computes_otherwise_is_refused():
    for model in (
        single("AveragePool", kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4, ceil_mode=1),
        single("Dropout", (2, 3), np.float32(0.5), np.bool_(True), opset=13),
        single("Pad", (2, 3), np.array([0, 1, 0, 1], dtype=np.int64), mode="reflect"),
        single("BatchNormalization", (2, 3), *[np.ones(3, np.float32)] * 4, training_mode=1, opset=15),
    ):
        with pytest.raises(UnsupportedError, match=model.graph.node[0].op_type):
            GraphModule(model)(torch.rand([axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]))


def test_logarithm_of_a_softmax_keeps_gradients_where_the_probability_rounds_to_one():
    x = torch.tensor([[200.0, 0.0]], requires_grad=True)
    found = GraphModule(single("Softmax", (1, 2)), logarithm=True)(x)
    torch.testing.assert_close(found.detach(), torch.tensor([[0.0, -200.0]]))
    (gradient,) = torch.autograd.grad(found[0, 1], x)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0]]))


def test_what_needs_no_input_is_computed_once():
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Exp", ["two"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    shapes = [value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1])]
    graph = GraphModule(helper.make_model(helper.make_graph(nodes, "folded", shapes[:1], shapes[1:])))
    assert [node.kind for node in graph.nodes] == ["Mul"]
    torch.testing.assert_close(graph(torch.ones(1)), torch.tensor([2.0]).exp())
