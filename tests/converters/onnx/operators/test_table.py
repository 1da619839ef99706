"""All operators are listed once, and forms that the standard has no example of compute what ONNX Runtime does."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, defs

from robnet_zoo.converters.onnx.operators.table import KINDS, OPERATORS, SIZES
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.single_nodes import by_runtime, single


def test_every_operator_is_in_one_file_and_exists():
    assert sum(len(kind.OPERATORS) for kind in KINDS) == len(OPERATORS)
    ours = {"SimplifiedLayerNormalization"}  # ONNX Runtime's, in the standard's domain
    assert {name for name in OPERATORS if "." not in name and not defs.has(name)} == ours
    assert SIZES.keys() <= OPERATORS.keys()


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
    "Pad by reflection": single("Pad", (2, 5), np.array([0, 3, 1, 4], dtype=np.int64), mode="reflect"),
    "Upsample": single("Upsample", (1, 2, 3, 4), np.array([1, 1, 2, 3], np.float32), opset=9, mode="nearest"),
    "Upsample, linear": single("Upsample", (1, 2, 3, 4), np.array([1, 1, 2, 3], np.float32), opset=9, mode="linear"),
    "Resize at opset 10": single("Resize", (1, 2, 6, 4), np.array([1, 1, 0.5, 2], np.float32), opset=10),
    "TopK with an attribute": single("TopK", (3, 5), opset=9, k=2, outputs=2),
    "Hardmax over all that follows an axis": single("Hardmax", opset=11),
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
    "MaxPool, ceiling, padding behind": single(
        "MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1
    ),
    "MaxPool, dilated": single("MaxPool", kernel_shape=[2, 2], dilations=[3, 2]),
    "MaxPool, same lower": single("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    "AveragePool": single("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool, padding counted": single("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    "AveragePool, one-sided padding": single("AveragePool", kernel_shape=[2, 3], pads=[1, 0, 0, 2]),
    "AveragePool, one-sided and counted": single(
        "AveragePool", kernel_shape=[2, 3], pads=[1, 0, 0, 2], count_include_pad=1
    ),
    "AveragePool, same upper": single("AveragePool", kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool, ceiling and padding": single(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1, opset=22
    ),
    "AveragePool, ceiling, padding counted": single(
        "AveragePool", kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4, ceil_mode=1, count_include_pad=1, opset=22
    ),
    "AveragePool, dilated": single("AveragePool", kernel_shape=[2, 2], dilations=[2, 3]),
    "AveragePool over one axis": single("AveragePool", (2, 3, 9), kernel_shape=[3], strides=[2]),
    "MaxPool over three axes": single("MaxPool", (2, 3, 5, 4, 6), kernel_shape=[2, 2, 2]),
    "MaxPool with positions": single("MaxPool", kernel_shape=[3, 2], pads=[1, 0, 1, 0], strides=[2, 1], outputs=2),
    "LpPool": single("LpPool", kernel_shape=[3, 2], p=3, strides=[2, 1], pads=[1, 0, 1, 1]),
    "GlobalLpPool": single("GlobalLpPool", p=3),
    "ConvTranspose, same lower": single("ConvTranspose", (2, 4, 5, 6), CONV, auto_pad="SAME_LOWER", strides=[2, 2]),
    "ConvTranspose of a given shape": single(
        "ConvTranspose", (2, 4, 5, 6), CONV, np.ones(3, np.float32), output_shape=[10, 11], strides=[2, 2]
    ),
    "ConvTranspose with output padding": single(
        "ConvTranspose", (2, 4, 5, 6), CONV, np.ones(3, np.float32), output_padding=[1, 2], strides=[3, 3]
    ),
    "Conv over one axis": single("Conv", (2, 3, 9), CONV[..., 0], pads=[1, 1]),
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


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (single("Dropout", (2, 3), np.float32(0.5), np.bool_(True), opset=13), "Dropout in inference form"),
        (
            single("BatchNormalization", (2, 3), *[np.ones(3, np.float32)] * 4, training_mode=1, opset=15),
            "BatchNormalization in inference form",
        ),
        (single("Tile", (2, 3), np.array([2**20, 2**20], np.int64), opset=13), "at most 2,147,483,648 numbers"),
        (single("RandomNormalLike", (2, 3)), "the ONNX operator RandomNormalLike$"),
    ],
    ids=["Dropout", "BatchNormalization", "Tile", "RandomNormalLike"],
)
def test_form_of_an_operator_that_is_no_function_or_too_large_is_refused(model, words):
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    with pytest.raises(UnsupportedError, match=words):
        GraphModule(model)(torch.rand(shape))
