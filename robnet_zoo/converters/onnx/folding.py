"""Read an ONNX graph into nodes, with everything computed that does not need the image.

That is every node whose inputs are constants, and arithmetic on sizes that are known when the file is opened: all but
that of a batch, which is left open even where the file fixes it. Functions, a model's own and those by which the
standard defines an operator that is not known here, are replaced by their nodes; an `If` whose condition is known, by
those of its branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, defs, helper, inliner, numpy_helper
from torch import Tensor

from robnet_zoo.converters.onnx.operators.node import NARROW_FLOATS, OnnxNode, torch_type
from robnet_zoo.converters.onnx.operators.table import OPERATORS
from robnet_zoo.core.wording import listed
from robnet_zoo.errors import UnsupportedError

DOMAINS = ("", "ai.onnx")  # the domain of the standard's own operators
TORCH_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)  # of a graph that torch refuses
SMALL = 1024  # numbers; larger constants are not sizes, and need not be known for the inference of shapes
Shape = tuple[int | None, ...]  # None is a size that is open


@dataclass(frozen=True)
class FoldedGraph:
    """The nodes between a graph's only input and one of its outputs, in order, and the constants that they read.

    narrow: whether anything in the graph is float16. types: ONNX's numbers of the types of constants, by their names.
    """

    input: str
    output: str
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Tensor]
    types: Mapping[str, int]
    narrow: bool


def folded(model: onnx.ModelProto, *, output: str | None = None, widened: bool = False) -> FoldedGraph:
    """Return the nodes that an output depends on.

    Args:
        model: the graph, with its weights.
        output: its name, by default that of the first.
        widened: float32 takes the place of float16.

    Raises: UnsupportedError for a graph of several inputs, unknown operators, or types that torch does not have.
    """
    model = _expanded(model)
    output = model.graph.output[0].name if output is None else output
    kept = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in kept]
    if len(inputs) != 1:
        raise UnsupportedError(f"expected a graph with one input, got {len(inputs)}")
    if model.graph.sparse_initializer:
        raise UnsupportedError("expected dense constants, as `read_file` makes them, got sparse ones")
    folding = _Folding(model, widened=widened)
    with torch.no_grad():
        folding.add(_needed(model.graph.node, {output}))
    folding.add_constants(tensor for tensor in model.graph.initializer if tensor.name == output)
    nodes = _pruned(folding.nodes, output)
    unknown = sorted({node.kind for node in nodes} - OPERATORS.keys())
    if unknown:
        raise UnsupportedError(f"no gradient is known for the ONNX {listed('operator', unknown)}")
    read = {name for node in nodes for name in node.inputs} | {output}
    return FoldedGraph(
        inputs[0],
        output,
        tuple(nodes),
        {name: value for name, value in folding.constants.items() if name in read},
        folding.types,
        folding.narrow,
    )


def evaluate(node: OnnxNode, inputs: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """Return the outputs of a node by name. A note on an error that it raises says which operator it was."""
    given: list[Any] = list(inputs)  # only operators with optional inputs look for None
    try:
        outputs = OPERATORS[node.kind](node, given)
    except TORCH_ERRORS as error:
        if node.kind not in str(error):
            error.add_note(f"in the ONNX operator {node.kind} {node.outputs[0]!r}")
        raise
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(zip(node.outputs, outputs, strict=False))  # some outputs are not computed, such as statistics


class _Folding:
    """Nodes and constants of a graph, while it is read from its beginning to its end.

    Attributes:
        nodes: those that need the image or its size.
        constants: by name, in torch.
        types: ONNX's numbers of types, by name.
        partial: the entries of vectors of sizes that are not all known, by name.
        narrow: whether anything was float16.
    """

    def __init__(self, model: onnx.ModelProto, *, widened: bool) -> None:
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, Tensor] = {}
        self.partial: dict[str, list[int | None]] = {}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.opsets = {"" if entry.domain in DOMAINS else entry.domain: entry.version for entry in model.opset_import}
        self.types, self.shapes = _inferred(model)
        self.widened = widened
        self.narrow = any(self.types.get(value.name) == TensorProto.FLOAT16 for value in model.graph.input)

    def add(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Add nodes, in their order."""
        for proto in nodes:
            self.add_constants(self.tensors.pop(name) for name in proto.input if name in self.tensors)
            if proto.op_type == "If" and proto.domain in DOMAINS and proto.input[0] in self.constants:
                self._add_branch(proto)
                continue
            node = self._node(proto)
            if not self._fold(node):
                self.nodes.append(node)

    def add_constants(self, tensors: Iterable[TensorProto]) -> None:
        """Add initialisers."""
        for tensor in tensors:
            self.types[tensor.name] = tensor.data_type
            self.constants[tensor.name] = self._widened(constant(tensor))

    def _add_branch(self, proto: onnx.NodeProto) -> None:
        """Add the nodes of the branch of an `If` whose condition is known."""
        graphs = {attribute.name: attribute.g for attribute in proto.attribute}
        branch = graphs["then_branch" if bool(self.constants[proto.input[0]]) else "else_branch"]
        self.tensors |= {tensor.name: tensor for tensor in branch.initializer}
        self.add(_needed(branch.node, {value.name for value in branch.output}))
        for outer, inner in zip(proto.output, branch.output, strict=True):
            self.add([helper.make_node("Identity", [inner.name], [outer])])

    def _node(self, proto: onnx.NodeProto) -> OnnxNode:
        domain = "" if proto.domain in DOMAINS else proto.domain
        kind = f"{domain}.{proto.op_type}" if domain else proto.op_type
        known = kind in OPERATORS
        attributes = {attribute.name: self._attribute(attribute) for attribute in proto.attribute} if known else {}
        types = tuple(self.types.get(name, 0) for name in proto.input)
        return OnnxNode(kind, tuple(proto.input), tuple(proto.output), attributes, self.opsets.get(domain, 1), types)

    def _attribute(self, attribute: onnx.AttributeProto) -> Any:
        value = helper.get_attribute_value(attribute)
        if attribute.name in ("to", "dtype", "output_dtype") and value == TensorProto.FLOAT16:
            self.narrow = True
            return TensorProto.FLOAT if self.widened else value
        if isinstance(value, TensorProto):
            return self._widened(constant(value))
        if isinstance(value, list):
            return [item.decode() if isinstance(item, bytes) else item for item in value]
        return value.decode() if isinstance(value, bytes) else value

    def _widened(self, value: Tensor) -> Tensor:
        """Return a constant with float32 in the place of float16, if that is asked for."""
        if value.dtype != torch.float16:
            return value
        self.narrow = True
        return value.float() if self.widened else value

    def _fold(self, node: OnnxNode) -> bool:
        """Add the outputs of a node to the constants if they are known; return whether they are."""
        if node.kind in ("Shape", "Size"):
            return self._fold_shape(node)
        if node.inputs and node.inputs[0] in self.partial:
            return self._fold_partial(node)
        if node.kind not in OPERATORS or not set(node.inputs) - {""} <= self.constants.keys():
            return False
        node = replace(node, on_image=False)
        inputs = [self.constants[name] if name else None for name in node.inputs]
        self.constants |= evaluate(node, inputs)
        self._note_types(node)
        return True

    def _note_types(self, node: OnnxNode) -> None:
        """Note the types of quantised constants, which are held in others."""
        if node.kind == "Constant" and "value" in node.attributes:
            return
        for name in node.outputs:
            self.types.setdefault(name, 0)

    def _fold_shape(self, node: OnnxNode) -> bool:
        name = node.inputs[0]
        shape = tuple(self.constants[name].shape) if name in self.constants else self.shapes.get(name)
        if shape is None:
            return False
        entries = list(shape[node.get("start", 0) : node.get("end", None)])
        if node.kind == "Size":
            if None in entries:
                return False
            self.constants[node.outputs[0]] = torch.tensor(int(np.prod(np.array(entries, dtype=np.int64))))
            return True
        return self._know(node.outputs[0], entries)

    def _fold_partial(self, node: OnnxNode) -> bool:
        """Pick from a vector of sizes of which some are known."""
        if node.kind not in ("Gather", "Slice") or not set(node.inputs[1:]) - {""} <= self.constants.keys():
            return False
        entries = self.partial[node.inputs[0]]
        # The same operator picks from the entries' positions.
        rest = [self.constants[name] if name else None for name in node.inputs[1:]]
        (picked,) = evaluate(node, [torch.arange(len(entries)), *rest]).values()
        if picked.dim() == 0:
            size = entries[int(picked)]
            if size is None:
                return False
            self.constants[node.outputs[0]] = torch.tensor(size)
            return True
        return self._know(node.outputs[0], [entries[i] for i in picked.flatten().tolist()])

    def _know(self, name: str, entries: list[int | None]) -> bool:
        """Keep a vector of sizes as a constant, if all are known, or as a partial one. Return whether all are."""
        if None in entries:
            self.partial[name] = entries
            return False
        self.constants[name] = torch.tensor(entries, dtype=torch.int64)
        return True


def _expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with functions in the place of their calls.

    They are the model's own, and those by which the standard defines operators that are not known here.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 1)
    defined = sorted({node.op_type for node in _nodes(model.graph) if _is_defined_by_others(node, opset)})
    if not defined:
        return model
    spelled = onnx.ModelProto()
    spelled.CopyFrom(model)
    for node in _nodes(spelled.graph):
        if node.op_type in defined and node.domain in DOMAINS:
            _spell_out(node, defs.get_schema(node.op_type, opset))
    try:
        kinds = [("", kind) for kind in defined]
        return inliner.inline_selected_functions(spelled, kinds, inline_schema_functions=True)
    except RuntimeError as error:  # of onnx, where an input of such an operator is left out
        raise UnsupportedError(
            f"no gradient is known for the ONNX {listed('operator', defined)}: {' '.join(str(error).split())}"
        ) from error


def _spell_out(node: onnx.NodeProto, schema: defs.OpSchema) -> None:
    """Give a node the attributes that are left to their defaults, which functions refer to."""
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _is_defined_by_others(node: onnx.NodeProto, opset: int) -> bool:
    """Return whether the standard defines an operator, unknown here, as a function of others."""
    if node.domain not in DOMAINS or node.op_type in OPERATORS or not defs.has(node.op_type):
        return False
    try:
        schema = defs.get_schema(node.op_type, opset)
    except defs.SchemaError:  # newer than the model's opset
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside them."""
    graphs = [graph]
    while graphs:
        for node in graphs.pop().node:
            yield node
            graphs += _inner_graphs(node)


def _inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def _needed(nodes: Sequence[onnx.NodeProto], names: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes, which are in topological order, that values depend on."""
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed.isdisjoint(node.output):
            continue
        needed |= set(node.input) - {""}
        for graph in _inner_graphs(node):
            needed |= {name for inner in _nodes(graph) for name in inner.input}
            needed |= {value.name for value in graph.output}
        kept.append(node)
    return kept[::-1]


def _pruned(nodes: Sequence[OnnxNode], output: str) -> list[OnnxNode]:
    """Return the nodes that an output depends on."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed |= set(node.inputs)
            kept.append(node)
    return kept[::-1]


def _inferred(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, Shape]]:
    """Return the types, as ONNX's numbers, and the shapes of values by name, as far as ONNX can infer them.

    The first axis of the input is left open. Only small constants are looked at.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(helper.make_empty_tensor_value_info(value.name) for value in model.graph.output)
    large = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims, dtype=np.float64) > SMALL]
    names = {tensor.name for tensor in model.graph.initializer}
    light.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor not in large)
    light.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in large
    )
    for value in model.graph.input:
        if value.name not in names:
            opened = light.graph.input.add()
            opened.CopyFrom(value)
            if opened.type.tensor_type.shape.dim:
                opened.type.tensor_type.shape.dim[0].Clear()
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    shapes: dict[str, Shape] = {}
    try:
        graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        graph = light.graph
    for value in _values(graph):
        kind = value.type.tensor_type
        if kind.elem_type:
            types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(
                axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None
                for axis in kind.shape.dim
            )
    return types, shapes


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """Yield what is known of the values of a graph and of the graphs inside its nodes."""
    yield from (*graph.input, *graph.value_info, *graph.output)
    for node in graph.node:
        for inner in _inner_graphs(node):
            yield from _values(inner)


def constant(proto: TensorProto) -> Tensor:
    """Return a constant in torch; see `torch_type`. Raises UnsupportedError."""
    kind = proto.data_type
    dtype = torch_type(kind)
    try:
        array = numpy_helper.to_array(proto)
        if kind == TensorProto.BFLOAT16:
            return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
        if kind in NARROW_FLOATS:
            return torch.from_numpy(array.astype(np.float32))
        return torch.from_numpy(array.astype(torch.zeros((), dtype=dtype).numpy().dtype))
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"{proto.name}: expected numbers of a type that torch has, got: {error}") from error
