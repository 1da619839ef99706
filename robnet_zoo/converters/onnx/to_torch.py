"""Rebuild an ONNX graph as a torch module: the function of the very file that ships, with gradients.

Every operator computes in the file's own types, one after the other, as `operators` defines it. What torch cannot
express is named in an UnsupportedError. The caller must check the result against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from robnet_zoo.converters.onnx.folding import evaluate, folded
from robnet_zoo.converters.onnx.operators.node import NARROW_FLOATS, OnnxNode, is_integer_type
from robnet_zoo.converters.onnx.operators.table import DATA_DEPENDENT, QUANTISERS, RECURRENT, ROUNDERS, SIZES
from robnet_zoo.core.wording import listed

KEPT = 8  # sizes of images for which the arithmetic on sizes is kept
Values = dict[str, Tensor]


class GraphModule(nn.Module):
    """The function from a graph's only input to one of its outputs.

    What depends neither on the image nor on its size is computed when the module is built. What depends on the size
    alone is computed on the CPU, and kept for images of the same size. Rounding passes gradients, and saturation stops
    them, so that quantised graphs have them too.

    Args:
        model: the graph, with its weights.
        output: the name of the output, by default the first.
        logarithm: the output is probabilities, and the module returns their logarithms. If the graph ends in a
            softmax, both are computed together, so that the gradient does not vanish where a probability rounds to 1.
        widened: float32 takes the place of float16, in which small gradients vanish. The input is float32 then.
        rounds: whether quantisers round. Without that they saturate only, as a rectifier may be folded into one: the
            graph is its float twin.

    Attributes:
        narrow: whether anything in the graph is float16.
        quantised: whether anything that depends on the image is quantised.
        why_not_traced: one line that says why it should not be traced, or nothing.

    Raises:
        UnsupportedError: an operator is unknown, or torch has no type for a constant.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        output: str | None = None,
        logarithm: bool = False,
        widened: bool = False,
        rounds: bool = True,
    ) -> None:
        super().__init__()
        graph = folded(model, output=output, widened=widened)
        self.input, self.output, self.narrow = graph.input, graph.output, graph.narrow
        nodes = list(graph.nodes)
        self.logarithm = logarithm
        if logarithm and nodes and nodes[-1].kind == "Softmax":
            nodes[-1], self.logarithm = replace(nodes[-1], kind="LogSoftmax"), False
        self.nodes = [replace(node, rounds=rounds) for node in _placed(nodes, set(graph.constants))]
        self.quantised = any(node.kind in QUANTISERS for node in self.nodes)
        self.why_not_traced = _why_not_traced([node for node in self.nodes if node.on_image])
        self.on_host = {name for node in self.nodes if not node.on_image for name in node.outputs}
        self.kept: dict[tuple[torch.Size, torch.device], tuple[Values, Values]] | None = (
            None if DATA_DEPENDENT & {node.kind for node in self.nodes} else {}
        )
        self.sizes = {name: graph.constants[name] for name in self._read(host=True) & graph.constants.keys()}
        self.keys: dict[str, str] = {}  # names of the other constants' buffers, which cannot be arbitrary texts
        for name in sorted(self._read(host=False) & graph.constants.keys()):
            self.keys[name] = f"constant_{len(self.keys)}"
            self.register_buffer(self.keys[name], graph.constants[name])
        last = {name: position for position, node in enumerate(self.nodes) for name in node.inputs}
        last.pop(self.output, None)
        self.read_last = [[name for name in node.inputs if last.get(name) == i] for i, node in enumerate(self.nodes)]
        self.eval()

    def _read(self, *, host: bool) -> set[str]:
        """Return the names that are read on the CPU, or on the device of the images."""
        names = set() if host else {self.output}
        return names | {name for node in self.nodes for name, there in _inputs(node) if there == host and name}

    def forward(self, x: Tensor, *, tell: Callable[[OnnxNode, Values], None] | None = None) -> Tensor:
        """Return the output for an input, both in the graph's own shape and type.

        Args:
            x: the input.
            tell: is told of each operator that depends on the image, with its outputs by name.
        """
        key = (x.shape, x.device)
        kept = None if self.kept is None else self.kept.get(key)
        host, moved = kept or (dict(self.sizes), {})
        values: Values = {name: self.get_buffer(buffer) for name, buffer in self.keys.items()}
        values |= moved
        values[self.input] = x
        for node, finished in zip(self.nodes, self.read_last, strict=True):
            if not node.on_image:
                if kept is None:
                    made = self._on_host(node, host, values)
                    host |= made
                    moved |= {name: value.to(x.device) for name, value in made.items()}
                    values |= moved
            else:
                inputs = [
                    None if not name else (host if there and name in host else values)[name]
                    for name, there in _inputs(node)
                ]
                outputs = evaluate(node, inputs)
                values |= outputs
                if tell is not None:
                    tell(node, outputs)
            for name in finished:
                values.pop(name, None)
        if kept is None and self.kept is not None:
            if len(self.kept) == KEPT:
                self.kept.clear()
            self.kept[key] = (host, moved)
        result = values[self.output]
        return result.clamp(min=torch.finfo(result.dtype).tiny).log() if self.logarithm else result

    def _on_host(self, node: OnnxNode, host: Values, values: Values) -> Values:
        """Return the outputs of a node that depends on sizes alone."""
        with torch.inference_mode(mode=False), torch.no_grad():
            inputs = [None if not name else host[name] if name in host else values[name] for name in node.inputs]
            return evaluate(node, inputs)


def without_gradient(graph: GraphModule, x: Tensor) -> list[OnnxNode]:
    """Return the operators that cut all gradients: an input of theirs has one, and no output does.

    Args:
        graph: whose output depends on them.
        x: an input of the graph, which requires a gradient.
    """
    alive, cut = {graph.input}, []

    def tell(node: OnnxNode, outputs: Values) -> None:
        through = {name for name, value in outputs.items() if value.requires_grad}
        if through:
            alive.update(through)
        elif not alive.isdisjoint(node.inputs):
            cut.append(node)

    graph(x, tell=tell)
    return cut


def _why_not_traced(nodes: list[OnnxNode]) -> str:
    """Return why a graph whose nodes these are should not be traced, or nothing.

    Torch forgets in tracing that gradients pass a rounding. Of a recurrent network it takes minutes for every time,
    without a gain.
    """
    if kinds := {node.kind for node in nodes if _rounds(node)}:
        why = "tracing would cut the gradients of what quantises or rounds,"
    elif kinds := {node.kind for node in nodes if node.kind in RECURRENT}:
        why = "tracing takes minutes for every time of"
    return f"{why} the ONNX {listed('operator', sorted(kinds))}" if kinds else ""


def _rounds(node: OnnxNode) -> bool:
    """Return whether a node rounds numbers, and passes their gradients."""
    kind = node.get("to", TensorProto.FLOAT) if node.kind == "Cast" else TensorProto.FLOAT
    return node.kind in QUANTISERS | ROUNDERS or is_integer_type(kind) or kind in NARROW_FLOATS


def _placed(nodes: list[OnnxNode], constants: set[str]) -> list[OnnxNode]:
    """Return nodes with a mark on those that depend on the image's values, and not on its size alone."""
    known, placed = set(constants), []
    for node in nodes:
        on_image = node.kind not in ("Shape", "Size") and not set(node.inputs) - {""} <= known
        if not on_image:
            known |= set(node.outputs)
        placed.append(replace(node, on_image=on_image))
    return placed


def _inputs(node: OnnxNode) -> Iterator[tuple[str, bool]]:
    """Yield the names of a node's inputs, with whether each is read on the CPU."""
    if node.kind in ("Shape", "Size"):
        yield node.inputs[0], False
        return
    sizes = SIZES.get(node.kind, ())
    for position, name in enumerate(node.inputs):
        yield name, not node.on_image or position in sizes
