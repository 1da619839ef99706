"""Rebuild an ONNX graph as a torch module: the function of the very file that ships, with gradients.

Every operator computes in the file's own types, one after the other, as `operators` defines it. What torch cannot
express is named in an UnsupportedError. The caller must check the result against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx
import torch
from onnx import helper, inliner, numpy_helper
from torch import Tensor, nn

from robnet_zoo.converters.onnx.operators import OPERATORS, OnnxNode
from robnet_zoo.errors import UnsupportedError

DOMAINS = ("", "ai.onnx")  # the domain of the standard's own operators


class GraphModule(nn.Module):
    """The function from a graph's only input to one of its outputs.

    Floating-point constants are buffers. Integers are sizes and positions, and stay on the CPU. Nodes that the output
    does not depend on are left out; those that do not depend on the input are evaluated once.

    Args:
        model: the graph, with its weights.
        output: the name of the output, by default the first.
        logarithm: the output is probabilities, and the module returns their logarithms. If the graph ends in a
            softmax, both are computed together, so that the gradient does not vanish where a probability rounds to 1.
        widened: float32 takes the place of float16, in which small gradients vanish. The input is float32 then.

    Attributes:
        narrow: whether anything in the graph is float16.

    Raises:
        UnsupportedError: an operator is unknown, or torch has no type for a constant.
    """

    def __init__(
        self, model: onnx.ModelProto, *, output: str | None = None, logarithm: bool = False, widened: bool = False
    ) -> None:
        super().__init__()
        if model.functions:
            model = inliner.inline_local_functions(model)
        self.output = model.graph.output[0].name if output is None else output
        constants = {tensor.name: _tensor(tensor) for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in constants]
        if len(inputs) != 1:
            raise UnsupportedError(f"expected a graph with one input, got {len(inputs)}")
        (self.input,) = inputs
        self.nodes: list[OnnxNode] = []
        needed = _needed(model, self.output)
        kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
        self.narrow = (
            onnx.TensorProto.FLOAT16 in kinds
            or any(_is_narrow(tensor) for tensor in constants.values())
            or any(_is_narrow(value) for node in needed for value in node.attributes.items())
        )
        if widened and self.narrow:
            constants = {name: _widened(tensor) for name, tensor in constants.items()}
            needed = [replace(node, attributes=dict(map(_widened, node.attributes.items()))) for node in needed]
        for node in needed:
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
        """Keep the constants that the nodes read."""
        read = {name for node in self.nodes for name in node.inputs} | {self.output}
        self.integers = {name: constants[name] for name in read & constants.keys() if _is_integer(constants[name])}
        self.keys: dict[str, str] = {}  # names of the other constants' buffers, which cannot be arbitrary texts
        for name in sorted(read & constants.keys() - self.integers.keys()):
            self.keys[name] = f"constant_{len(self.keys)}"
            self.register_buffer(self.keys[name], constants[name])

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for an input, both in the graph's own shape and type."""
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


def _is_narrow(value: object) -> bool:
    """Return whether a constant is float16, or an attribute asks for it."""
    match value:
        case Tensor():
            return value.dtype == torch.float16
        case (str(name), attribute):
            return (name == "to" and attribute == onnx.TensorProto.FLOAT16) or _is_narrow(attribute)
    return False


def _widened(value: Any) -> Any:
    """Return a constant or an attribute, (name, value), with float32 in the place of float16."""
    match value:
        case Tensor() if _is_narrow(value):
            return value.float()
        case (str(name), attribute) if _is_narrow(value):
            return name, onnx.TensorProto.FLOAT if name == "to" else _widened(attribute)
    return value


def _tensor(proto: onnx.TensorProto) -> Tensor:
    try:
        return torch.from_numpy(numpy_helper.to_array(proto).copy())
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"{proto.name}: expected numbers of a type that torch has, got: {error}") from error


def _needed(model: onnx.ModelProto, output: str) -> list[OnnxNode]:
    """Return the nodes that an output depends on, in the graph's order. Raises UnsupportedError for unknown ones."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 1)
    needed, nodes = {output}, []
    unknown: set[str] = set()
    for node in reversed(model.graph.node):  # which is in topological order
        if needed.isdisjoint(node.output):
            continue
        needed |= set(node.input) - {""}
        if node.domain not in DOMAINS:
            unknown.add(f"{node.domain}.{node.op_type}")
        elif node.op_type not in OPERATORS:
            unknown.add(node.op_type)
        else:
            attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
            nodes.append(OnnxNode(node.op_type, tuple(node.input), tuple(node.output), attributes, opset))
    if unknown:
        raise UnsupportedError(f"no gradient is known for the ONNX operators {', '.join(sorted(unknown))}")
    return nodes[::-1]


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else value


def _evaluate(node: OnnxNode, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of a node by name."""
    # None stands for an input that is left out; only operators with optional inputs look for it.
    inputs: list[Any] = [values[name] if name else None for name in node.inputs]
    outputs = OPERATORS[node.kind](node, inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(zip(node.outputs, outputs, strict=False))  # some outputs are not computed, such as Dropout's mask
