"""Graphs in torch have the logits and gradients of the model that was exported."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.single_nodes import single


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
        expected, got = everything(images), graph(images)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        gradients = [torch.autograd.grad(y[:, 1].sum(), images)[0] for y in (expected, got)]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_every_unknown_operator_that_the_output_needs_is_named():
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Scan", ["x"], ["a"]),
        helper.make_node("RandomNormalLike", ["a"], ["b"]),
        helper.make_node("Mystery", ["b"], ["y"], domain="acme"),
        helper.make_node("Ceil", ["x"], ["unread"]),
    ]
    shapes = [value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1])]
    model = helper.make_model(helper.make_graph(nodes, "unknown", shapes[:1], shapes[1:]))
    with pytest.raises(UnsupportedError, match=r"for the ONNX operators RandomNormalLike, Scan, acme\.Mystery$"):
        GraphModule(model)


def test_logarithm_of_a_softmax_keeps_gradients_where_the_probability_rounds_to_one():
    x = torch.tensor([[200.0, 0.0]], requires_grad=True)
    got = GraphModule(single("Softmax", (1, 2)), logarithm=True)(x)
    torch.testing.assert_close(got.detach(), torch.tensor([[0.0, -200.0]]))
    (gradient,) = torch.autograd.grad(got[0, 1], x)
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


RECURRENT = single("RNN", (5, 2, 3), np.ones((1, 4, 3), np.float32), np.ones((1, 4, 4), np.float32), hidden_size=4)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (single("Sign"), "tracing would cut the gradients of what quantises or rounds, the ONNX operator Sign"),
        (
            single("Cast", to=TensorProto.INT8),
            "tracing would cut the gradients of what quantises or rounds, the ONNX operator Cast",
        ),
        (RECURRENT, "tracing takes minutes for every time of the ONNX operator RNN"),
        (single("Cast", to=TensorProto.FLOAT16), ""),
        (single("Relu"), ""),
    ],
    ids=["Sign", "Cast to integers", "RNN", "Cast to half floats", "Relu"],
)
def test_graph_that_passes_gradients_through_rounding_or_is_recurrent_says_that_it_is_not_to_be_traced(model, why):
    assert GraphModule(model).why_not_traced == why
