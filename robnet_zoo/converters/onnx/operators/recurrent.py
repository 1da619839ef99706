"""Recurrent networks: a sequence of states, each computed from the one before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import MICROSOFT, OnnxNode, Operator, held, optional, positions
from robnet_zoo.converters.onnx.operators.quantised import dynamic_bytes

Activation = Callable[[Tensor], Tensor]

# Functions of gates and states, and the defaults of the parameters of each, which they take in this order. Where the
# standard leaves a default open, and for ThresholdedRelu, ONNX Runtime takes 0.
ACTIVATIONS: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, float]]] = MappingProxyType(
    {
        "affine": (lambda x, alpha, beta: alpha * x + beta, {"alpha": 0.0, "beta": 0.0}),
        "elu": (F.elu, {"alpha": 1.0}),
        "hardsigmoid": (lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1), {"alpha": 0.2, "beta": 0.5}),
        "leakyrelu": (F.leaky_relu, {"alpha": 0.01}),
        "relu": (F.relu, {}),
        "scaledtanh": (lambda x, alpha, beta: alpha * torch.tanh(beta * x), {"alpha": 0.0, "beta": 0.0}),
        "sigmoid": (torch.sigmoid, {}),
        "softplus": (F.softplus, {}),
        "softsign": (F.softsign, {}),
        "tanh": (torch.tanh, {}),
        "thresholdedrelu": (lambda x, alpha: torch.where(x >= alpha, x, torch.zeros_like(x)), {"alpha": 0.0}),
    }
)


@dataclass(frozen=True)
class _Cell:
    """The parameters of one direction.

    node: has the attributes. functions: those of gates and states. weight: (gates * H, H), of the state. bias:
    (gates * H,), of the state. peepholes: (3, H), of an LSTM. quantised: whether the state is quantised before it is
    multiplied.
    """

    node: OnnxNode
    functions: Sequence[Activation]
    weight: Tensor
    bias: Tensor | None
    peepholes: Tensor | None
    quantised: bool

    def projected(self, state: Tensor) -> Tensor:
        """Return the product of the state and its weights."""
        return F.linear(_as_bytes(self.node, state) if self.quantised else state, self.weight, self.bias)

    def clipped(self, gate: Tensor) -> Tensor:
        """Return the argument of a gate's function within its bounds, if there are such."""
        limit = self.node.get("clip", 0.0)
        return gate.clamp(-limit, limit) if limit else gate


States = tuple[Tensor, ...]  # (N, H) each: the output, and that of the cell in an LSTM
Step = Callable[[_Cell, Tensor, States], States]


def _rnn_step(cell: _Cell, x: Tensor, states: States) -> States:
    (f,), (h,) = cell.functions, states
    return (f(cell.clipped(x + cell.projected(h))),)


def _gru_step(cell: _Cell, x: Tensor, states: States) -> States:
    (f, g), (h,) = cell.functions, states
    size = h.shape[1]
    gates, hidden = cell.weight.split([2 * size, size])
    b, b_hidden = (None, None) if cell.bias is None else cell.bias.split([2 * size, size])
    update, reset = f(cell.clipped(x[:, : 2 * size] + F.linear(h, gates, b))).chunk(2, 1)
    if cell.node.get("linear_before_reset", 0):
        past = reset * F.linear(h, hidden, b_hidden)
    else:
        past = F.linear(reset * h, hidden, b_hidden)
    return ((1 - update) * g(cell.clipped(x[:, 2 * size :] + past)) + update * h,)


def _lstm_step(cell: _Cell, x: Tensor, states: States) -> States:
    (f, g, activation), (h, c) = cell.functions, states
    i, o, forget, new = (x + cell.projected(h)).chunk(4, 1)
    if cell.peepholes is not None:
        i, forget = i + cell.peepholes[0] * c, forget + cell.peepholes[2] * c
    i = f(cell.clipped(i))
    c = (1 - i if cell.node.get("input_forget", 0) else f(cell.clipped(forget))) * c + i * g(cell.clipped(new))
    o = o if cell.peepholes is None else o + cell.peepholes[1] * c
    return f(cell.clipped(o)) * activation(c), c


def _functions(node: OnnxNode, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """Return the functions of gates and states, for each direction.

    Each takes as many of the node's parameters as it has, and its defaults where these are used up.
    """
    names = node.get("activations") or list(defaults) * directions
    if len(names) != len(defaults) * directions:
        raise node.refuse(f"with {len(names)} activations")
    given = {name: iter(node.get(f"activation_{name}", [])) for name in ("alpha", "beta")}
    functions = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise node.refuse(f"with the activation {name}")
        function, parameters = ACTIVATIONS[name.lower()]
        values = [next(given[parameter], default) for parameter, default in parameters.items()]
        functions.append(_with(function, values))
    return [functions[i : i + len(defaults)] for i in range(0, len(names), len(defaults))]


def _with(function: Callable[..., Tensor], parameters: Sequence[float]) -> Activation:
    return lambda x: function(x, *parameters)


def _recurrent(
    node: OnnxNode, inputs: list[Tensor], *, step: Step, defaults: Sequence[str], states: int, quantised: bool = False
) -> tuple[Tensor, ...]:
    """Return the states of all times, and the last ones.

    Args:
        node: with its attributes.
        inputs: x, (T, N, C), weights of x, (directions, gates * H, C), and of the states, (directions, gates * H, H);
            and if there are such, biases of both, lengths of the sequences, first states, and peepholes. With layout 1,
            N comes first.
        step: computes states from those before them.
        defaults: the names of the functions of gates and states.
        states: how many there are, 2 in an LSTM.
        quantised: whether x and the states are quantised before they are multiplied.
    """
    x, weights, recurrences = inputs[:3]
    biases, given = optional(inputs, 3), optional(inputs, 4)
    before, peepholes = [optional(inputs, 5 + i) for i in range(states)], optional(inputs, 5 + states)
    transposed = bool(node.get("layout", 0))
    x = x.transpose(0, 1) if transposed else x
    before = [value.transpose(0, 1) if value is not None and transposed else value for value in before]
    lengths = None if given is None else positions(given)
    if lengths is not None:  # an empty sequence leaves zeros, as in ONNX Runtime
        before = [value if value is None else torch.where((lengths > 0)[:, None], value, 0) for value in before]
    first = x.new_zeros(x.shape[1], recurrences.shape[-1])
    ends, outputs = [], []
    for i, functions in enumerate(_functions(node, defaults, len(weights))):
        backwards = node.get("direction", "forward") == "reverse" or i == 1
        bias = None if biases is None else biases[i].chunk(2)
        split = None if peepholes is None else peepholes[i].reshape(3, -1)
        cell = _Cell(node, functions, recurrences[i], None if bias is None else bias[1], split, quantised)
        given_x = _as_bytes(node, x) if quantised else x
        given_x = _turned(given_x, lengths) if backwards else given_x
        series = F.linear(given_x, weights[i], None if bias is None else bias[0])
        now = tuple(first if value is None else value[i] for value in before)
        made = []
        for time, projected in enumerate(series):
            new = step(cell, projected, now)
            if lengths is None:
                made.append(new[0])
            else:
                goes_on = (time < lengths)[:, None]  # (N, 1)
                made.append(torch.where(goes_on, new[0], 0))
                new = tuple(torch.where(goes_on, after, old) for after, old in zip(new, now, strict=True))
            now = new
        y = torch.stack(made)  # (T, N, H)
        outputs.append(_turned(y, lengths) if backwards else y)
        ends.append(now)
    y, last = torch.stack(outputs, 1), [torch.stack(values) for values in zip(*ends, strict=True)]
    if transposed:
        return y.permute(2, 0, 1, 3), *(value.transpose(0, 1) for value in last)
    return y, *last


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return sequences, (T, N, ...), with their times in reverse order; what lies behind their ends stays there."""
    if lengths is None:
        return x.flip(0)
    times = torch.arange(len(x), device=x.device)[:, None]
    where = torch.where(times < lengths, lengths - 1 - times, times)  # (T, N)
    return x.gather(0, where[..., None].expand_as(x))


def _as_bytes(node: OnnxNode, x: Tensor) -> Tensor:
    """Return x as the nearest multiples of a scale that unsigned bytes hold."""
    integers, scale, zero_point = dynamic_bytes(node, x)
    return (integers - zero_point) * scale


def _dynamic_lstm(node: OnnxNode, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Return what an LSTM gives whose weights are bytes, and whose products are of bytes."""
    x, w, r, *rest = inputs
    w_scale, w_zero, r_scale, r_zero = rest[5:]
    weights = _dequantised(w, w_scale, w_zero), _dequantised(r, r_scale, r_zero)
    return _lstm(node, [x, *weights, *rest[:5]], quantised=True)


def _dequantised(integers: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Return weights of an LSTM.

    Args:
        integers: (directions, C, gates * H).
        scale: (directions,) or (directions, gates * H).
        zero_point: likewise.

    Returns: (directions, gates * H, C).
    """
    count = len(integers)
    whole = held(integers) - held(zero_point).reshape(count, 1, -1)
    return (whole * scale.reshape(count, 1, -1)).transpose(1, 2)


_lstm = partial(_recurrent, step=_lstm_step, defaults=("Sigmoid", "Tanh", "Tanh"), states=2)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "GRU": partial(_recurrent, step=_gru_step, defaults=("Sigmoid", "Tanh"), states=1),
        "LSTM": _lstm,
        "RNN": partial(_recurrent, step=_rnn_step, defaults=("Tanh",), states=1),
        f"{MICROSOFT}.DynamicQuantizeLSTM": _dynamic_lstm,
    }
)
