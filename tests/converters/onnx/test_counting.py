"""A graph's weights are counted as torch counts the parameters of the module that it was exported from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from robnet_zoo.converters.onnx.counting import count_weights
from tests.converters.onnx.quantised_files import FORMS, quantised


class Layers(nn.Module):
    """Layers whose exports hold statistics, bounds, sizes and constants of arithmetic beside their weights."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.Sequential(nn.ReLU6(), nn.BatchNorm2d(8), nn.PReLU(8))
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.tokens = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(8, 5))
        self.register_buffer("mean", torch.rand(3, 1, 1))

    def forward(self, x):
        x = self.norm(self.stem((x - self.mean) / 0.25)) * self.scale
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        return self.head(self.mix(self.tokens(x)).mean(1).clamp(-3, 3))


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])  # which takes long to start
def test_exported_module_has_as_many_weights_as_torch_counts(dynamo, tmp_path):
    torch.manual_seed(0)
    model = Layers().eval()
    for parameter in model.parameters():  # equal ones would be written once
        nn.init.normal_(parameter)
    path = tmp_path / "m.onnx"
    torch.onnx.export(model, (torch.rand(2, 3, 8, 8),), path, dynamo=dynamo, opset_version=18, verbose=False)
    assert count_weights(onnx.load(path)) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_quantised_file_has_as_many_weights_as_the_float_file_that_it_was_made_from(form, per_channel, tmp_path):
    path = quantised(tmp_path, form, per_channel=per_channel)
    assert count_weights(onnx.load(path)) == 3 * 72 + 8 * 72 + 4 * 8 + 4


def graph(nodes, **constants):
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
    )


WEIGHT = np.ones((12, 4), np.float32)
FLAT = helper.make_node("Flatten", ["x"], ["f"])


def test_weight_that_is_read_twice_counts_once_and_one_that_nothing_reads_never():
    nodes = [FLAT, helper.make_node("MatMul", ["f", "w"], ["a"]), helper.make_node("MatMul", ["f", "w"], ["b"])]
    assert count_weights(graph([*nodes, helper.make_node("Add", ["a", "b"], ["y"])], w=WEIGHT, idle=WEIGHT)) == 48


def test_weights_in_constant_nodes_count_through_what_changes_their_shape():
    held = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT.T))
    nodes = [FLAT, held, helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["f", "t"], ["y"])]
    assert count_weights(graph(nodes)) == 48


def test_packed_weights_of_a_runtimes_own_operator_leave_the_number_unknown():
    packed = helper.make_node("MatMulNBits", ["f", "w", "s"], ["y"], domain="com.microsoft", K=12, N=4)
    assert count_weights(graph([FLAT, packed], w=np.ones((4, 1, 6), np.uint8), s=np.ones(4, np.float32))) is None


def test_weights_inside_a_branch_leave_the_number_unknown():
    nodes = [helper.make_node("MatMul", ["f", "w"], ["out"])]
    branch = helper.make_graph(nodes, "branch", [], [helper.make_empty_tensor_value_info("out")])
    either = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    assert count_weights(graph([FLAT, either], w=WEIGHT, condition=np.array(True))) is None
