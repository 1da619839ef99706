"""Find the first operator after which two ONNX graphs give something else for the same image.

Names need not agree, nor need the operators: a value of a graph is looked up among all values of the other. Where
exporters fold, fuse or split operators, there are values that only one graph has, but the values behind them agree
again. So the graphs part where nothing agrees any more on the way to the logits.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor

from robnet_zoo.converters.onnx.classifier import RUNTIME_ERRORS, ImageModule, OnnxClassifier
from robnet_zoo.converters.onnx.exporter import to_onnx
from robnet_zoo.converters.onnx.file import session_on_cpu
from robnet_zoo.core.documents import Document
from robnet_zoo.errors import UnsupportedError
from robnet_zoo.nn.network import Network

AT_ONCE = 32  # values that are in memory together
SAMPLED = 2**14  # numbers that are compared of a larger value
TINY = 1e-30  # below this, all numbers of a value count as zero
Key = tuple[int, ...]


class GraphNode(Document):
    """An operator in a graph. number: its position, from 1 on, among those that depend on the image. output: the name
    of its first output."""

    number: int
    operator: str
    name: str
    output: str

    def __str__(self) -> str:
        return f"{self.operator} {self.name or self.output!r} (operator {self.number})"


class Parting(Document):
    """The first operators that give something else than any of the other graph, on whose inputs both agree.

    first, second: of either graph, in the order in which it computes. None where everything on the way to the logits is
    also computed by the other graph, which then goes on.
    """

    first: GraphNode | None = None
    second: GraphNode | None = None


@dataclass(frozen=True)
class RunnableGraph:
    """A graph, the image that it is shown as its input wants it, and the name of its logits."""

    proto: onnx.ModelProto
    feed: Mapping[str, np.ndarray]
    output: str


def graph_of_file(file: OnnxClassifier, image: Tensor) -> RunnableGraph:
    """Return the graph of a file, to be shown an image (1, C, H, W), repeated to the batch that the file takes."""
    images = image.expand(file.batch or 1, -1, -1, -1)
    shown = images.permute(0, 2, 3, 1) if file.nhwc else images
    feed = {file.input: np.ascontiguousarray(shown.cpu().numpy(), file.dtype)}
    return RunnableGraph(file.proto, feed, file.output)


def graph_of_network(network: Network, image: Tensor) -> RunnableGraph:
    """Return the graph that a network is exported as, to be shown an image (1, C, H, W).

    Raises: ModelError if it cannot be exported.
    """
    proto = to_onnx(copy.deepcopy(network).float().cpu())
    return RunnableGraph(proto, {"images": image.cpu().float().numpy()}, "logits")


def part(first: RunnableGraph, second: RunnableGraph, *, tolerance: float) -> Parting:
    """Return where two graphs part.

    Args:
        first, second: shown the same image.
        tolerance: the largest difference of two values that agree, as a share of the largest number in them.

    Raises: UnsupportedError if ONNX Runtime cannot show what is between input and output.
    """
    known, other = _samples(first), _samples(second)
    agreeing, agreeing_other = _agreeing(known, other, tolerance)
    return Parting(first=_first_without(first, agreeing & known.keys()), second=_first_without(second, agreeing_other))


def where_rebuilt_differs(file: OnnxClassifier, module: ImageModule, image: Tensor, *, tolerance: float) -> str:
    """Return in words the first operator of a file that its graph, rebuilt in torch, computes otherwise, or nothing.

    Args:
        file: a file.
        module: its graph.
        image: (1, C, H, W), repeated to the batch that the file takes.
        tolerance: the largest difference of values that agree, as a share of the largest number in them.
    """
    shown = replace(graph_of_file(file, image), proto=file.fused)
    rebuilt: dict[str, Tensor] = {}
    x = torch.from_numpy(shown.feed[file.input]).to(module.dtype)
    with suppress(UnsupportedError), torch.no_grad():
        module.graph(x, tell=lambda _, outputs: rebuilt.update(outputs))
        kinds = {name: node.op_type for node in shown.proto.graph.node for name in node.output}
        for name, value in node_values(shown):
            if name in rebuilt and not _alike(rebuilt[name], value, tolerance):
                return f"{kinds[name]} {name!r}"
    return ""


def _alike(rebuilt: Tensor, value: np.ndarray, tolerance: float) -> bool:
    expected, numbers = value.astype(np.float64), rebuilt.double().numpy()
    if numbers.shape != expected.shape:
        return False
    equal = (numbers == expected) | (np.isnan(numbers) & np.isnan(expected))
    with np.errstate(invalid="ignore"):  # of infinities
        away = np.where(equal, 0, np.abs(numbers - expected))
    return bool((away <= tolerance * np.abs(expected).max(initial=0, where=np.isfinite(expected)) + TINY).all())


def node_values(graph: RunnableGraph) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the outputs of the graph's nodes, by name, as far as they are numbers.

    A graph inside a node is not entered.

    Raises: UnsupportedError if ONNX Runtime cannot give them.
    """
    names = [name for node in graph.proto.graph.node for name in node.output if name]
    given = {value.name for value in graph.proto.graph.output}
    opened = onnx.ModelProto()
    opened.CopyFrom(graph.proto)
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in given)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = session_on_cpu(opened.SerializeToString(), options)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            for name, value in zip(some, session.run(some, dict(graph.feed)), strict=True):
                if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                    yield name, value
    except (*RUNTIME_ERRORS, ValueError) as error:  # the latter for more than 2 GiB
        reason = " ".join(str(error).split())
        raise UnsupportedError(f"ONNX Runtime does not show what is between input and output: {reason}") from error


@dataclass(frozen=True)
class _Sample:
    """Some numbers of a value, and the largest of all."""

    numbers: np.ndarray
    largest: float


def _samples(graph: RunnableGraph) -> dict[str, tuple[Key, _Sample]]:
    """Return some numbers of each value that depends on the image, by name, with the shape of the value.

    Channels that are zero throughout do not count: an exporter may fill up with them.
    """
    dependent = _dependent(graph)
    samples = {}
    for name, value in node_values(graph):
        if name not in dependent:
            continue
        with np.errstate(over="ignore"):
            numbers = value.astype(np.float32)
        if numbers.ndim == 4:
            numbers = numbers[:, numbers.any(axis=(0, 2, 3))]
        flat = numbers.ravel()
        largest = float(np.abs(flat).max()) if flat.size else 0.0
        if flat.size > SAMPLED:
            flat = flat[np.random.default_rng(flat.size).integers(0, flat.size, SAMPLED)]
        samples[name] = numbers.shape, _Sample(flat, largest)
    return samples


def _dependent(graph: RunnableGraph) -> set[str]:
    """Return the names of the values that depend on the image."""
    names = set(graph.feed)
    for node in graph.proto.graph.node:
        inner = {name for attribute in node.attribute for each in attribute.g.node for name in each.input}
        if not names.isdisjoint({*node.input, *inner}):
            names |= set(node.output) - {""}
    return names


def _agreeing(
    first: Mapping[str, tuple[Key, _Sample]], second: Mapping[str, tuple[Key, _Sample]], tolerance: float
) -> tuple[set[str], set[str]]:
    """Return the names of values that agree with some value of the other graph, of each graph."""
    by_shape: dict[Key, list[tuple[str, _Sample]]] = defaultdict(list)
    for name, (shape, sample) in second.items():
        by_shape[shape].append((name, sample))
    mine, other = set(), set()
    for name, (shape, sample) in first.items():
        for other_name, candidate in by_shape[shape]:
            if _agree(sample, candidate, tolerance):
                mine.add(name)
                other.add(other_name)
    return mine, other


def _agree(first: _Sample, second: _Sample, tolerance: float) -> bool:
    allowed = tolerance * max(first.largest, second.largest) + TINY
    if not abs(first.largest - second.largest) <= allowed:  # most others are told apart by that; NaN too
        return False
    with np.errstate(invalid="ignore"):
        return bool((np.abs(first.numbers - second.numbers) <= allowed).all())


def _first_without(graph: RunnableGraph, agreeing: set[str]) -> GraphNode | None:
    """Return the first operator on the way to the logits behind which nothing agrees with the other graph."""
    needed, first = {graph.output}, None
    dependent = _dependent(graph)
    nodes = [node for node in graph.proto.graph.node if not dependent.isdisjoint(node.output)]
    for number, node in reversed(list(enumerate(nodes, start=1))):
        outputs = set(node.output) & needed
        if outputs and not outputs <= agreeing:
            first = GraphNode(number=number, operator=node.op_type, name=node.name, output=node.output[0])
            needed |= set(node.input)
            needed |= {name for attribute in node.attribute for each in attribute.g.node for name in each.input}
    return first
