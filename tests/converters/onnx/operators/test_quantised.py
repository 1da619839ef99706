"""Quantised operators give ONNX Runtime's integers to the last unit, and pass gradients through their rounding."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from robnet_zoo.converters.onnx.operators import quantised
from robnet_zoo.converters.onnx.operators.node import held
from robnet_zoo.converters.onnx.to_torch import GraphModule
from tests.converters.onnx import standard
from tests.converters.onnx.single_nodes import by_runtime, of_node, single

GENERATOR = np.random.default_rng(0)
TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.int32: TensorProto.INT32}
SCALES = (np.float32(0.02131), np.float32(0.03713), np.float32(0.04171))
IMAGES = (8, 6, 9, 9)
CLOSE = ("QLinearAveragePool", "QLinearSoftmax")  # of which ONNX Runtime rounds the sums, so that ties go either way


def integers(*shape, dtype=np.uint8):
    bounds = np.iinfo(dtype)
    return GENERATOR.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def zeros(dtype):
    """Return zero points of the two inputs and the output."""
    return [np.array(value, dtype) for value in ((120, 7, 131) if dtype == np.uint8 else (3, -7, 11))]


def model(kind, inputs, shape, dtype, result=None, **attributes):
    return of_node(kind, inputs, shape, TYPES[dtype], [TYPES[dtype] if result is None else result], **attributes)


def cases(dtype):
    """Yield models of all operators that ONNX Runtime's quantiser writes, with images of bytes of a type."""
    (x, b, y), (x0, b0, y0) = SCALES, zeros(dtype)
    own, other, unit = ["x", x, x0], [integers(*IMAGES, dtype=dtype), b, b0], np.float32(1 / 256)
    low = np.array(np.iinfo(dtype).min, dtype)
    microsoft = "com.microsoft.QLinear"
    yield "Add", model(f"{microsoft}Add", [*own, *other, y, y0], IMAGES, dtype)
    small = [integers(1, 6, 1, 1, dtype=dtype), b, b0]
    yield "Add, broadcast", model(f"{microsoft}Add", [*own, *small, y, y0], IMAGES, dtype)
    yield "Mul", model(f"{microsoft}Mul", [*own, *other, y, y0], IMAGES, dtype)
    yield "Concat", model(f"{microsoft}Concat", [y, y0, *own, *other], IMAGES, dtype, axis=1)
    chosen = GENERATOR.random(IMAGES) > 0.5
    yield "Where", model(f"{microsoft}Where", [chosen, *own, *other, y, y0], IMAGES, dtype)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    yield "AveragePool", model(f"{microsoft}AveragePool", [*own, y, y0], IMAGES, dtype, **pool)
    yield "GlobalAveragePool", model(f"{microsoft}GlobalAveragePool", [*own, x, y0], IMAGES, dtype)
    yield "LeakyRelu", model(f"{microsoft}LeakyRelu", [*own, x, y0], IMAGES, dtype, alpha=0.1)
    yield "Sigmoid", model(f"{microsoft}Sigmoid", [*own, unit, low], IMAGES, dtype)
    yield "Softmax", model(f"{microsoft}Softmax", [*own, unit, low], (64, 10), dtype, axis=-1, opset=13)
    yield "NhwcMaxPool", model("com.microsoft.NhwcMaxPool", ["x"], (4, 9, 9, 8), dtype, **pool)
    if dtype == np.int8:
        yield "DequantizeLinear", model("DequantizeLinear", own, IMAGES, dtype, TensorProto.FLOAT)
        return
    weight, bias = integers(5, 6, 3, 3, dtype=np.int8), integers(5, dtype=np.int8).astype(np.int32) * 20
    scales, none = GENERATOR.random(5).astype(np.float32) * 0.01 + 0.001, np.zeros(5, np.int8)
    pads = [1, 1, 1, 1]
    conv = [*own, weight, scales, none, y, y0, bias]
    yield "Conv", model("QLinearConv", conv, IMAGES, dtype, pads=pads)
    wide = [*own, integers(5, 600, 3, 3, dtype=np.int8), scales / 50, none, y, y0, bias]
    yield "Conv whose sums float32 does not hold", model("QLinearConv", wide, (2, 600, 5, 5), dtype, pads=pads)
    depthwise = [*own, integers(6, 1, 3, 3, dtype=np.int8), SCALES[0], np.int8(0), y, y0]
    yield "Conv, depthwise", model("QLinearConv", depthwise, IMAGES, dtype, pads=pads, group=6)
    matrix, columns = integers(700, 5, dtype=np.int8), scales / 50
    for name, scale, zero in (("a scale", np.float32(4e-4), np.int8(0)), ("a scale a column", columns, none)):
        yield f"MatMul, {name}", model("QLinearMatMul", [*own, matrix, scale, zero, y, y0], (64, 700), dtype)
    gemm = [*own, matrix, np.float32(4e-4), np.int8(0), bias]
    yield "Gemm", model("com.microsoft.QGemm", [*gemm, y, y0], (64, 700), dtype, alpha=1.0)
    yield "Gemm to float32", model("com.microsoft.QGemm", gemm, (64, 700), dtype, TensorProto.FLOAT, alpha=1.0)
    yield "MatMulInteger", model("MatMulInteger", ["x", matrix, x0, np.int8(0)], (64, 700), dtype, TensorProto.INT32)
    kind = "com.microsoft.MatMulIntegerToFloat"
    yield kind, model(kind, ["x", matrix, x, scales, x0, none], (64, 700), dtype, TensorProto.FLOAT)
    integer = ["x", integers(5, 6, 3, 3), np.uint8(7), np.uint8(100)]
    yield "ConvInteger", model("ConvInteger", integer, IMAGES, dtype, TensorProto.INT32)


ALL = [(f"{dtype.__name__} {name}", dtype, made) for dtype in (np.uint8, np.int8) for name, made in cases(dtype)]


@pytest.mark.parametrize(("dtype", "made"), [case[1:] for case in ALL], ids=[case[0] for case in ALL])
def test_integers_are_those_of_onnx_runtime(dtype, made):
    shape = [axis.dim_value for axis in made.graph.input[0].type.tensor_type.shape.dim]
    x = integers(*shape, dtype=dtype)
    (expected,) = by_runtime(made, x, precise=dtype == np.uint8)
    got = GraphModule(made)(held(torch.from_numpy(x)))
    if made.graph.node[0].op_type in CLOSE:
        away = np.abs(got.numpy() - expected)
        assert away.max() <= 1
        assert (away > 0).mean() < 0.03
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["com.microsoft.DynamicQuantizeMatMul", "DynamicQuantizeLinear"])
def test_dynamic_quantisation_is_that_of_onnx_runtime(kind):
    x = GENERATOR.standard_normal((64, 300)).astype(np.float32)
    weight = [integers(300, 5, dtype=np.int8), np.full(1, 0.01, np.float32), np.zeros(1, np.int8)]
    inputs, results = (["x", *weight], [TensorProto.FLOAT])
    if kind == "DynamicQuantizeLinear":
        inputs, results = ["x"], [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    made = of_node(kind, inputs, x.shape, TensorProto.FLOAT, results)
    for value, expected in zip(made.graph.output, by_runtime(made, x, precise=True), strict=True):
        got = GraphModule(made, output=value.name)(torch.from_numpy(x))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 if expected.dtype == np.float32 else 0)


def test_half_floats_are_quantised_as_by_onnx_runtime():
    x = GENERATOR.standard_normal(1000).astype(np.float16)
    inputs = ["x", np.float16(0.0337), np.uint8(128)]
    made = of_node("QuantizeLinear", inputs, x.shape, TensorProto.FLOAT16, [TensorProto.UINT8], standard=23)
    np.testing.assert_array_equal(GraphModule(made)(torch.from_numpy(x)), by_runtime(made, x)[0])


@pytest.mark.parametrize("scale", [np.float16(0.0337), np.float32(0.0337)])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_bytes_become_numbers_of_the_type_that_is_asked_for(scale, kind):
    x = np.arange(-128, 128).astype(np.int8)
    made = of_node("DequantizeLinear", ["x", scale], x.shape, TensorProto.INT8, [kind], standard=23, output_dtype=kind)
    np.testing.assert_array_equal(GraphModule(made)(torch.from_numpy(x)), by_runtime(made, x)[0], strict=True)


@pytest.mark.parametrize("kind", standard.kinds(quantised.OPERATORS))
def test_operator_computes_what_the_standard_says(kind):
    assert standard.compare_with_the_standard(kind)
    standard.compare_with_runtime_at_older_opsets(kind)


def test_gradient_passes_a_quantiser_and_stops_where_it_saturates():
    x = torch.tensor([[-1.0, 0.004, 1.0, 2.0, 5.0]], requires_grad=True)
    made = single("QuantizeLinear", (1, 5), np.float32(0.01), np.uint8(3))
    y = GraphModule(made)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.tolist() == [[0, 3, 103, 203, 255]]
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 100.0, 100.0, 100.0, 0.0]]))


def test_gradient_of_a_quantised_convolution_is_that_of_its_numbers():
    made = {name: made for name, _, made in ALL}["uint8 Conv"]
    weight, scales = (torch.from_numpy(np.array(value)) for value in _constants(made, 3, 4))
    x = torch.from_numpy(integers(*IMAGES)).float().requires_grad_()
    y = GraphModule(made)(x)
    expected = torch.nn.functional.conv2d(
        x * SCALES[0], weight.float() * scales[:, None, None, None], padding=1
    )  # in units of the output, without its bounds
    inside = ((y > 0) & (y < 255)).detach()
    got, wanted = (torch.autograd.grad(value[inside].sum(), x)[0] for value in (y * SCALES[2], expected))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def _constants(made, *positions):
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    return [values[made.graph.node[0].input[position]] for position in positions]
