"""An ONNX graph as a torch module: the function of the very file that ships, with gradients.

Every operation computes in the file's own types, one after the other, as `onnx_operations` defines it. What cannot be
expressed is named in an UnsupportedError; whether the rest is right, a caller checks against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx
import torch
from onnx import helper, inliner, numpy_helper
from torch import Tensor, nn

from robnet_zoo.converters.onnx.operators import OPERATIONS, Node
from robnet_zoo.errors import UnsupportedError

DOMAINS = ("", "ai.onnx")  # names of the standard's own operations


class GraphModule(nn.Module):
    """The function from a graph's one input to an output, by default the first.

    logarithm: the output is probabilities, and the module gives their logarithms; where the graph ends in a softmax,
    without rounding in between, so that the gradient does not vanish where a probability rounds to 1.
    Floating constants are buffers; integers, which are sizes and positions, stay on the CPU. Nodes that the output
    does not need are left out, those that need no input are evaluated once.
    Raises UnsupportedError for operations that are unknown, and for constants that torch has no type for.
    """

    def __init__(self, model: onnx.ModelProto, *, output: str | None = None, logarithm: bool = False) -> None:
        super().__init__()
        if model.functions:
            model = inliner.inline_local_functions(model)
        self.output = model.graph.output[0].name if output is None else output
        constants = {tensor.name: _tensor(tensor) for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in constants]
        if len(inputs) != 1:
            raise UnsupportedError(f"expected a graph with one input, got {len(inputs)}")
        (self.input,) = inputs
        self.nodes: list[Node] = []
        for node in _needed(model, self.output):
            if set(node.inputs) - {""} <= constants.keys():
                constants |= _evaluate(node, constants)
            else:
                self.nodes.append(node)
        self.logarithm = logarithm
        if logarithm and self.nodes and self.nodes[-1].kind == "Softmax":
            self.nodes[-1], self.logarithm = replace(self.nodes[-1], kind="LogSoftmax"), False
        self._keep(constants)
        last = {name: position for position, node in enumerate(self.nodes) for name in node.inputs}
        last.pop(self.output, None)
        self.read_last = [[name for name in node.inputs if last.get(name) == i] for i, node in enumerate(self.nodes)]
        self.eval()

    def _keep(self, constants: Mapping[str, Tensor]) -> None:
        read = {name for node in self.nodes for name in node.inputs} | {self.output}
        self.integers = {name: constants[name] for name in read & constants.keys() if _is_integer(constants[name])}
        self.keys: dict[str, str] = {}  # of the other constants, the buffer's name, which cannot be just any text
        for name in sorted(read & constants.keys() - self.integers.keys()):
            self.keys[name] = f"constant_{len(self.keys)}"
            self.register_buffer(self.keys[name], constants[name])

    def forward(self, x: Tensor) -> Tensor:
        """Whatever the graph takes -> what it gives."""
        values: dict[str, Tensor] = {name: self.get_buffer(key) for name, key in self.keys.items()}
        values |= self.integers
        values[self.input] = x
        for node, finished in zip(self.nodes, self.read_last, strict=True):
            values |= _evaluate(node, values)
            for name in finished:
                values.pop(name, None)
        result = values[self.output]
        return result.clamp(min=torch.finfo(result.dtype).tiny).log() if self.logarithm else result


def _is_integer(value: Tensor) -> bool:
    return not value.is_floating_point()


def _tensor(proto: onnx.TensorProto) -> Tensor:
    try:
        return torch.from_numpy(numpy_helper.to_array(proto).copy())
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"{proto.name}: expected numbers of a type that torch has, got: {error}") from error


def _needed(model: onnx.ModelProto, output: str) -> list[Node]:
    """The nodes that an output depends on, in the graph's order. Raises UnsupportedError if one is unknown."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 1)
    needed, found = {output}, []
    unknown: set[str] = set()
    for node in reversed(model.graph.node):  # which is in topological order
        if needed.isdisjoint(node.output):
            continue
        needed |= set(node.input) - {""}
        if node.domain not in DOMAINS:
            unknown.add(f"{node.domain}.{node.op_type}")
        elif node.op_type not in OPERATIONS:
            unknown.add(node.op_type)
        else:
            attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
            found.append(Node(node.op_type, tuple(node.input), tuple(node.output), attributes, opset))
    if unknown:
        raise UnsupportedError(f"no gradient is known of the ONNX operations {', '.join(sorted(unknown))}")
    return found[::-1]


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else value


def _evaluate(node: Node, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # None stands for what is left out: only operations with optional inputs look for it.
    inputs: list[Any] = [values[name] if name else None for name in node.inputs]
    outputs = OPERATIONS[node.kind](node, inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(zip(node.outputs, outputs, strict=False))  # Dropout's mask, for one, is not given
