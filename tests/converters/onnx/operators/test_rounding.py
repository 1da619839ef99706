"""Narrow types: their numbers are those of ml_dtypes, gradients pass rounding and stop at saturation."""

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from robnet_zoo.converters.onnx.operators.rounding import integer_range, narrow_float, narrow_integers
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.single_nodes import by_runtime

FLOATS = {
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    TensorProto.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("kind", FLOATS)
def test_float_is_rounded_to_the_nearest_of_its_type_and_saturates(kind):
    largest = float(ml_dtypes.finfo(FLOATS[kind]).max)
    x = torch.linspace(-1.2, 1.2, 4097, dtype=torch.float64).mul(largest).float().requires_grad_()
    y = narrow_float(x, kind)
    expected = np.clip(x.detach().numpy(), -largest, largest).astype(FLOATS[kind]).astype(np.float32)
    np.testing.assert_array_equal(y.detach(), expected)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, (x.abs() <= largest).float())


def test_float_that_does_not_saturate_becomes_infinite_or_nan():
    x = torch.tensor([1e9, -1e9, 1.0])
    assert narrow_float(x, TensorProto.FLOAT8E5M2, saturate=False).tolist() == [float("inf"), -float("inf"), 1.0]
    assert narrow_float(x, TensorProto.FLOAT8E4M3FN, saturate=False).isnan().tolist() == [True, True, False]


EDGES = [0.0, 5e-39, 6e-39, 1e-38, 1.0, 1.25, 1.5, 1.75, 2.0, 1.71e38, 2.6e38, 3.4e38, np.inf, np.nan]


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("direction", ["up", "down", "nearest"])
def test_powers_of_two_are_those_of_onnx_runtime(direction, saturate):
    to = {"to": TensorProto.FLOAT8E8M0, "round_mode": direction, "saturate": int(saturate)}
    nodes = [helper.make_node("Cast", ["x"], ["power"], **to), helper.make_node("Cast", ["power"], ["y"], to=1)]
    image, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [len(EDGES)]) for name in "xy")
    graph = helper.make_graph(nodes, "powers", [image], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    x = np.array(EDGES, np.float32)
    got = narrow_float(torch.from_numpy(x), TensorProto.FLOAT8E8M0, direction=direction, saturate=saturate)
    np.testing.assert_array_equal(got, by_runtime(model, x)[0])


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.INT4])
def test_gradient_of_integers_passes_rounding_and_stops_at_saturation(kind):
    low, high = integer_range(kind)
    x = torch.tensor([low - 3.2, 0.5, 1.5, high + 0.7], requires_grad=True)
    y = narrow_integers(x, None, kind)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.tolist() == [low, 0, 2, high]
    assert gradient.tolist() == [0, 1, 1, 0]


def test_wide_integers_are_refused():
    with pytest.raises(UnsupportedError, match="expected integers of at most 16 bits, got ONNX's type 7"):
        integer_range(TensorProto.INT64)
