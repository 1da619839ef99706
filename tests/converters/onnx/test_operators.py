"""Operators in torch compute what the ONNX standard's own examples say and what ONNX Runtime computes."""

import importlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from robnet_zoo.converters.onnx.operators import OPERATORS
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.single_nodes import by_runtime, single

# The standard's examples are made when their modules are imported; those of the pools take seconds, so pools are
# compared with ONNX Runtime below, as is Cast, whose examples are of types that numpy does not have.
WITH_EXAMPLES = sorted(OPERATORS.keys() - {"AveragePool", "MaxPool", "Cast", "Constant"})
MODULES = {"BatchNormalization": "batch_normalization"}  # where it is not the operation's name in lower case
TYPES = ("uint", "int8", "int16", "bool", "string", "sequence", "opt")  # that classifiers of images do not use
LEFT_OUT = (*TYPES, "training", "empty", "edge", "reflect", "wrap")


def examples(kind):
    """Return the standard's examples of an operation: (model, inputs, expected output)."""
    node = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module(f"onnx.backend.test.case.node.{MODULES.get(kind, kind.lower())}")
    for case in node._NodeTestCases:
        if [entry.op_type for entry in case.model.graph.node] == [kind] and not any(w in case.name for w in LEFT_OUT):
            inputs, outputs = case.data_sets[0]
            yield case.model, inputs, outputs[0]


@pytest.mark.parametrize("kind", WITH_EXAMPLES)
def test_operator_computes_what_the_standards_examples_say(kind):
    count = 0
    for model, inputs, expected in examples(kind):
        constant = onnx.ModelProto()
        constant.CopyFrom(model)
        for value, array in zip(model.graph.input[1:], inputs[1:], strict=True):
            constant.graph.initializer.append(numpy_helper.from_array(array, value.name))
        got = GraphModule(constant)(torch.from_numpy(np.array(inputs[0]))).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, strict=True)
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
def test_operator_computes_what_onnx_runtime_does(model):
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for value, expected in zip(model.graph.output, by_runtime(_typed(model), x), strict=True):
        got = GraphModule(model, output=value.name)(x).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, strict=True)


def _typed(model):
    """Return the model with the output type that Cast gives."""
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "to":
            model.graph.output[0].type.tensor_type.elem_type = attribute.i
    return model


def test_form_of_an_operator_that_torch_computes_otherwise_is_refused():
    for model in (
        single("AveragePool", kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4, ceil_mode=1),
        single("Dropout", (2, 3), np.float32(0.5), np.bool_(True), opset=13),
        single("Pad", (2, 3), np.array([0, 1, 0, 1], dtype=np.int64), mode="reflect"),
        single("BatchNormalization", (2, 3), *[np.ones(3, np.float32)] * 4, training_mode=1, opset=15),
    ):
        with pytest.raises(UnsupportedError, match=model.graph.node[0].op_type):
            GraphModule(model)(torch.rand([axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]))
