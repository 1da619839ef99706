"""Operators that ONNX Runtime's optimiser writes compute what it does."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from robnet_zoo.converters.onnx.operators import runtime
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.single_nodes import by_runtime, of_node

GENERATOR = np.random.default_rng(0)


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def model(kind, inputs, shape, *, outputs=1, **attributes):
    name = kind if kind == "SimplifiedLayerNormalization" else f"com.microsoft.{kind}"
    return of_node(name, inputs, shape, TensorProto.FLOAT, [TensorProto.FLOAT] * outputs, **attributes)


TOKENS = (2, 5, 8)
CODES = GENERATOR.integers(0, 256, (3, 2, 16)).astype(np.uint8)  # (N, blocks, block of 32 numbers of 4 bits)
CONV = [normal(4, 3, 3, 3), normal(4)]
MODELS = {
    "Attention": model("Attention", ["x", normal(8, 24), normal(24)], TOKENS, num_heads=2),
    "Attention, causal": model("Attention", ["x", normal(8, 24), normal(24)], TOKENS, num_heads=2, unidirectional=1),
    "BiasGelu": model("BiasGelu", ["x", normal(8)], TOKENS),
    "FastGelu": model("FastGelu", ["x", normal(8)], TOKENS),
    "FusedConv": model("FusedConv", ["x", *CONV], (2, 3, 6, 6), activation="Relu", pads=[1] * 4),
    "FusedConv with a sum": model(
        "FusedConv", ["x", *CONV, normal(2, 4, 6, 6)], (2, 3, 6, 6), activation="Relu", pads=[1] * 4
    ),
    "FusedConv with parameters": model(
        "FusedConv", ["x", *CONV], (2, 3, 6, 6), activation="Clip", activation_params=[0.0, 0.5]
    ),
    "FusedGemm": model(
        "FusedGemm",
        ["x", normal(5, 4), normal(4)],
        (3, 5),
        alpha=0.5,
        beta=2.0,
        activation="LeakyRelu",
        activation_alpha=0.1,
    ),
    "FusedMatMul": model("FusedMatMul", ["x", normal(2, 7, 8)], TOKENS, transB=1, alpha=0.3),
    "Gelu": model("Gelu", ["x"], TOKENS),
    "MatMulNBits": model(
        "MatMulNBits", ["x", CODES, np.abs(normal(6))], (5, 50), K=50, N=3, bits=4, block_size=32, accuracy_level=1
    ),
    "MatMulNBits with zero points": model(
        "MatMulNBits",
        ["x", CODES, np.abs(normal(6)), GENERATOR.integers(0, 256, 3).astype(np.uint8)],
        (5, 50),
        K=50,
        N=3,
        bits=4,
        block_size=32,
        accuracy_level=1,
    ),
    "MultiHeadAttention": model("MultiHeadAttention", ["x", normal(*TOKENS), normal(*TOKENS)], TOKENS, num_heads=2),
    "MultiHeadAttention with biases": model(
        "MultiHeadAttention",
        ["x", normal(*TOKENS), normal(*TOKENS), normal(24), None, normal(2, 2, 5, 5)],
        TOKENS,
        num_heads=2,
        scale=0.3,
    ),
    "MultiHeadAttention of heads": model(
        "MultiHeadAttention", ["x", normal(2, 2, 6, 4), normal(2, 2, 6, 4)], TOKENS, num_heads=2
    ),
    "QuickGelu": model("QuickGelu", ["x"], TOKENS, alpha=1.5),
    "SimplifiedLayerNormalization": model("SimplifiedLayerNormalization", ["x", normal(8)], TOKENS),
    "SkipLayerNormalization": model(
        "SkipLayerNormalization", ["x", normal(*TOKENS), normal(8), normal(8), normal(8)], TOKENS, epsilon=1e-5
    ),
    "SkipSimplifiedLayerNormalization": model(
        "SkipSimplifiedLayerNormalization", ["x", normal(*TOKENS), normal(8)], TOKENS, epsilon=1e-5
    ),
}


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_operator_computes_what_onnx_runtime_does(made):
    shape = [axis.dim_value for axis in made.graph.input[0].type.tensor_type.shape.dim]
    x = normal(*shape)
    (expected,) = by_runtime(made, x)
    got = GraphModule(made)(torch.from_numpy(x))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_quantised_attention_is_that_of_onnx_runtime():
    weight = GENERATOR.integers(-64, 64, (8, 24)).astype(np.int8)
    scales = [np.float32(0.02), np.float32(0.05)]
    inputs = ["x", weight, normal(24), *scales, None, np.uint8(120), np.int8(0)]
    made = of_node("com.microsoft.QAttention", inputs, TOKENS, TensorProto.UINT8, [TensorProto.FLOAT], num_heads=2)
    x = GENERATOR.integers(0, 256, TOKENS).astype(np.uint8)
    (expected,) = by_runtime(made, x)
    np.testing.assert_allclose(GraphModule(made)(torch.from_numpy(x)), expected, rtol=1e-4, atol=1e-5)


def test_every_operator_is_compared():
    names = {made.graph.node[0].op_type for made in MODELS.values()} | {"QAttention", "NhwcMaxPool"}
    assert names == {name.rpartition(".")[2] for name in runtime.OPERATORS}


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "words"),
    [
        ("MultiHeadAttention", ["x", None, None, None, np.ones(2, np.int32)], {"num_heads": 2}, "with a padding mask"),
        ("MultiHeadAttention", ["x"], {"num_heads": 2}, "without keys or values"),
        ("FusedConv", ["x", *CONV], {"activation": "Softsign"}, "with the activation Softsign"),
    ],
)
def test_form_that_is_not_static_is_refused_by_name(kind, inputs, attributes, words):
    shape = (2, 3, 6, 6) if kind == "FusedConv" else TOKENS
    with pytest.raises(UnsupportedError, match=f"ONNX operator com.microsoft.{kind} {words}"):
        GraphModule(model(kind, inputs, shape, **attributes))(torch.zeros(shape))
