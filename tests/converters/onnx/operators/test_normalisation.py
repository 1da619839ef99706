"""Normalisations compute what the standard and ONNX Runtime say, with the gradients of differences."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robnet_zoo.converters.onnx.operators import normalisation
from robnet_zoo.converters.onnx.to_torch import GraphModule
from tests.converters.onnx import standard
from tests.converters.onnx.single_nodes import by_runtime


@pytest.mark.parametrize("kind", standard.kinds(normalisation.OPERATORS))
def test_operator_computes_what_the_standard_says(kind):
    assert standard.compare_with_the_standard(kind)
    standard.compare_with_runtime_at_older_opsets(kind)
    standard.compare_gradients(kind)


@pytest.mark.parametrize("result", ["normal", "mean", "variance"])
def test_batch_norm_of_constants_in_training_mode_computes_what_onnx_runtime_does(result):
    random = np.random.default_rng(0)
    weights = random.normal(size=(1, 4, 6)).astype(np.float32)  # as of a convolution that standardises them
    others = random.uniform(0.5, 1.5, (4, 4)).astype(np.float32)
    names = ["weights", "scale", "shift", "mean_before", "variance_before"]
    nodes = [
        helper.make_node("BatchNormalization", names, ["normal", "mean", "variance"], training_mode=1, momentum=0.7),
        helper.make_node("Add", ["x", result], ["y"]),
    ]
    constants = [numpy_helper.from_array(array, name) for array, name in zip([weights, *others], names, strict=True)]
    image, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "standardised", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = torch.ones(1)
    np.testing.assert_allclose(GraphModule(model)(x), by_runtime(model, x)[0], rtol=1e-5, atol=1e-6, strict=True)
