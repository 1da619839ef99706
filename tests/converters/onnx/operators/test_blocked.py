"""Graphs that ONNX Runtime's optimiser lays out in blocks of channels compute what it does."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from robnet_zoo.converters.onnx.operators import blocked
from robnet_zoo.converters.onnx.operators.blocked import block_size
from robnet_zoo.converters.onnx.to_torch import GraphModule
from tests.converters.onnx.single_nodes import by_runtime

NODE = helper.make_node
SHAPE = (2, 3, 9, 8)
FIRST = NODE("Conv", ["x", "first"], ["a"], pads=[1] * 4)
HALF = "half_pixel"

# Nodes from a, (N, 32, 9, 8), to y; 32 channels are whole blocks, 20 are not.
GRAPHS = {
    "a convolution": [NODE("Conv", ["a", "wide", "bias"], ["y"], strides=[2, 1], dilations=[1, 2])],
    "a sum and a rectifier": [
        NODE("Conv", ["a", "square"], ["b"], pads=[1] * 4),
        NODE("Add", ["a", "b"], ["c"]),
        NODE("Relu", ["c"], ["y"]),
    ],
    "a depthwise convolution": [NODE("Conv", ["a", "deep"], ["y"], group=32, auto_pad="SAME_UPPER")],
    "a largest number": [NODE("MaxPool", ["a"], ["y"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0])],
    "an average": [NODE("AveragePool", ["a"], ["y"], kernel_shape=[2, 3], count_include_pad=1, pads=[0, 1, 0, 1])],
    "an average of all pixels": [NODE("GlobalAveragePool", ["a"], ["y"])],
    "a largest of all pixels": [NODE("GlobalMaxPool", ["a"], ["y"])],
    "more pixels": [NODE("Resize", ["a", "", "scales"], ["y"], coordinate_transformation_mode="asymmetric",
                         nearest_mode="floor")],
    "pixels between pixels": [NODE("Resize", ["a", "", "scales"], ["y"], mode="linear",
                                   coordinate_transformation_mode=HALF)],
    "channels last": [
        NODE("Conv", ["a", "wide", "bias"], ["b"]),
        NODE("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
        NODE("LayerNormalization", ["c", "scale"], ["d"]),
        NODE("Transpose", ["d"], ["e"], perm=[0, 3, 1, 2]),
        NODE("Conv", ["e", "narrow"], ["y"]),
    ],
}  # fmt: skip


def optimised(nodes, path):
    """Return a graph as ONNX Runtime lays it out for this processor."""
    random = np.random.default_rng(0)
    shapes = {"first": (32, 3, 3, 3), "wide": (20, 32, 3, 3), "square": (32, 32, 3, 3), "deep": (32, 1, 3, 2)}
    shapes |= {"narrow": (12, 20, 1, 1), "bias": (20,), "scale": (20,)}
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    constants["scales"] = np.array([1, 1, 2, 3], np.float32)
    read = {name for node in (FIRST, *nodes) for name in node.input}
    image, result = (helper.make_tensor_value_info("x", 1, SHAPE), helper.make_tensor_value_info("y", 1, None))
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read]
    graph = helper.make_graph([FIRST, *nodes], "blocks", [image], [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 4, str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return model, onnx.load(path)


pytestmark = pytest.mark.skipif(block_size() == 1, reason="ONNX Runtime has no blocks of channels on this processor")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("blocked") / "m.onnx"
    return {name: optimised(nodes, path) for name, nodes in GRAPHS.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_computes_what_onnx_runtime_does_and_has_the_same_gradients(name, models):
    plain, laid_out = models[name]
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y, expected = GraphModule(laid_out)(x), GraphModule(plain)(x)
    np.testing.assert_allclose(y.detach(), by_runtime(laid_out, x.detach())[0], rtol=1e-4, atol=1e-4, strict=True)
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    got, right = (torch.autograd.grad((value * weights).sum(), x)[0] for value in (y, expected))
    torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


def test_every_operator_is_compared(models):
    kinds = {f"{node.domain}.{node.op_type}" for _, model in models.values() for node in model.graph.node}
    assert blocked.OPERATORS.keys() <= kinds
