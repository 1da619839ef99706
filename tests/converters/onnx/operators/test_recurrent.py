"""Recurrent networks compute what the standard and ONNX Runtime say, with the gradients of differences."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from robnet_zoo.converters.onnx.operators import recurrent
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx import standard
from tests.converters.onnx.single_nodes import by_runtime, of_node

TIMES, BATCH, CHANNELS, STATE = 5, 3, 4, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LENGTHS = np.array([5, 2, 4], np.int32)


def made(kind, *, opset=14, lengths=None, started=False, biased=True, peepholes=False, **attributes):
    """Return a model of one recurrent network with random weights, all of whose outputs are given."""
    random = np.random.default_rng(0)
    count, gates = 1 + (attributes.get("direction") == "bidirectional"), GATES[kind]
    state = [random.normal(size=(count, BATCH, STATE)) for _ in range(1 + (kind == "LSTM"))]
    inputs = [
        random.normal(size=(count, gates * STATE, CHANNELS)),
        random.normal(size=(count, gates * STATE, STATE)),
        random.normal(size=(count, 2 * gates * STATE)) if biased else None,
        lengths,
        *(state if started else [None] * len(state)),
    ]
    if peepholes:
        inputs.append(random.normal(size=(count, 3 * STATE)))
    inputs = [value if value is None or value.dtype == np.int32 else value.astype(np.float32) for value in inputs]
    shape, results = (TIMES, BATCH, CHANNELS), [TensorProto.FLOAT] * (1 + len(state))
    attributes = {"hidden_size": STATE, **{name: value for name, value in attributes.items() if value != []}}
    return of_node(kind, ["x", *inputs], shape, TensorProto.FLOAT, results, standard=opset, **attributes)


BOTH = {"direction": "bidirectional"}
FORMS = {
    **{f"{kind} in both directions": made(kind, lengths=LENGTHS, started=True, **BOTH) for kind in GATES},
    **{f"{kind} backwards": made(kind, lengths=LENGTHS, direction="reverse") for kind in GATES},
    **{f"{kind} without biases": made(kind, biased=False) for kind in GATES},
    **{f"{kind} at opset 7": made(kind, opset=7, started=True) for kind in GATES},
    **{f"{kind} with clipped gates": made(kind, clip=0.4, started=True) for kind in GATES},
    **{f"{kind} of an empty sequence": made(kind, lengths=np.array([0, 5, 3], np.int32), started=True)
       for kind in GATES},
    "GRU that resets behind the product": made("GRU", linear_before_reset=1, started=True, lengths=LENGTHS, **BOTH),
    "GRU that resets behind the product, without biases": made("GRU", linear_before_reset=1, biased=False),
    "LSTM with peepholes": made("LSTM", peepholes=True, started=True, lengths=LENGTHS, **BOTH),
    "LSTM with peepholes and clipped gates": made("LSTM", peepholes=True, started=True, clip=0.3),
    "LSTM that forgets what it does not take in": made("LSTM", input_forget=1, started=True),
    "LSTM with other functions": made("LSTM", activations=["HardSigmoid", "Softsign", "Relu"], started=True),
    "LSTM with other functions each way": made(
        "LSTM",
        activations=["HardSigmoid", "LeakyRelu", "Tanh", "Sigmoid", "Elu", "Affine"],
        activation_alpha=[0.3, 0.2, 0.7, 0.6],
        activation_beta=[0.4, 0.1],
        started=True,
        **BOTH,
    ),
    "GRU with other functions": made("GRU", activations=["HardSigmoid", "ScaledTanh"], activation_alpha=[0.3, 0.9],
                                     activation_beta=[0.4, 0.8]),
    **{
        f"RNN with {name}": made("RNN", activations=[name], activation_alpha=list(values[:1]),
                                 activation_beta=list(values[1:]))
        for name, values in {
            "Affine": (0.5, 0.1),
            "Elu": (0.7,),
            "HardSigmoid": (0.3, 0.4),
            "LeakyRelu": (0.2,),
            "Relu": (),
            "ScaledTanh": (0.9, 0.8),
            "Sigmoid": (),
            "Softplus": (),
            "Softsign": (),
            "Tanh": (),
            "ThresholdedRelu": (0.3,),
        }.items()
    },
    **{f"RNN with {name} without parameters": made("RNN", activations=[name])
       for name in ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "ScaledTanh")},
}  # fmt: skip


@pytest.mark.parametrize("kind", standard.kinds(recurrent.OPERATORS))
def test_operator_computes_what_the_standard_says(kind):
    assert standard.compare_with_the_standard(kind)
    assert standard.compare_with_runtime_at_older_opsets(kind)
    assert standard.compare_gradients(kind)


@pytest.mark.parametrize("model", FORMS.values(), ids=FORMS)
def test_network_computes_what_onnx_runtime_does(model):
    x = np.random.default_rng(1).normal(size=(TIMES, BATCH, CHANNELS)).astype(np.float32)
    for value, expected in zip(model.graph.output, by_runtime(model, x), strict=True):
        got = GraphModule(model, output=value.name)(torch.from_numpy(x))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, strict=True)


@pytest.mark.parametrize(
    ("activations", "words"), [(["Sinh"], "with the activation Sinh"), (["Tanh", "Tanh"], "with 2 activations")]
)
def test_function_that_is_not_known_is_refused_by_name(activations, words):
    with pytest.raises(UnsupportedError, match=f"ONNX operator RNN {words}"):
        GraphModule(made("RNN", activations=activations))(torch.zeros(TIMES, BATCH, CHANNELS))


@pytest.mark.parametrize("attributes", [{}, BOTH], ids=["forward", "both directions"])
def test_dynamic_quantisation_is_that_of_onnx_runtime(attributes):
    random, count = np.random.default_rng(0), 2 if attributes else 1
    weights = [random.integers(-64, 64, (count, size, 4 * STATE)).astype(np.int8) for size in (CHANNELS, STATE)]
    biases = random.normal(size=(count, 8 * STATE)).astype(np.float32)
    scales = [random.uniform(0.01, 0.02, count).astype(np.float32) for _ in weights]
    zero = np.zeros(count, np.int8)
    inputs = ["x", *weights, biases, None, None, None, None, scales[0], zero, scales[1], zero]
    shape, kind = (TIMES, BATCH, CHANNELS), "com.microsoft.DynamicQuantizeLSTM"
    model = of_node(kind, inputs, shape, TensorProto.FLOAT, [TensorProto.FLOAT] * 3, hidden_size=STATE, **attributes)
    x = random.normal(size=shape).astype(np.float32)
    for value, expected in zip(model.graph.output, by_runtime(model, x, precise=True), strict=True):
        graph = GraphModule(model, output=value.name)
        assert graph.quantised
        np.testing.assert_allclose(graph(torch.from_numpy(x)), expected, rtol=1e-4, atol=1e-5, strict=True)
