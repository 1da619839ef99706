"""Write a network as an ONNX graph, emitted from the blueprint: the compiler's other target.

It differs from the network for speed (`robnet_zoo.benchmarks.speed.onnx` has the figures):

- batch norms are folded into the convolutions before them, in float64;
- every node is rectified once;
- channels are filled up with zeros to a multiple of 16, the width of the processors' registers. ONNX Runtime's blocked
  float kernels do so anyway, but stay in their layout across a concatenation only if the widths allow it. Its integer
  kernels compute the remaining channels one number at a time.

Initialisers have the keys of the weights as names, `cells.3.edges.0->2.sep_conv_3x3.1.weight`, and end in `.bias` for
what a batch norm adds, so that `loader` can find them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.blueprint import CellBlueprint, blueprint
from robnet_zoo.genotype.layers import MEDIAN_OF_NINE, Block
from robnet_zoo.nn.forms.folding import Affine, Fold, Halves, Step, fold, folded
from robnet_zoo.nn.layers import DotProduct2d, EmbeddedGaussian2d, Median2d
from robnet_zoo.nn.network import CellModule, Network

ALIGNMENT = 16  # channels
END = 2**31  # the end of a slice that reaches as far as there are values
Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]
# The type of everything between images and logits.
DTYPES: Mapping[Precision, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}


@dataclass(frozen=True)
class GraphValue:
    """A tensor of the graph, (N, width, H, W): the network's channel k is at positions[k], and the rest is zero."""

    name: str
    positions: Positions
    width: int


@dataclass(frozen=True)
class Placement:
    """The positions of a network's tensor in its initialiser: these outputs and, for a matrix, these inputs."""

    shape: tuple[int, ...]
    outputs: Positions
    inputs: Positions | None = None

    def put(self, tensor: Array) -> Array:
        """Return the initialiser that holds a tensor of the network."""
        whole = np.zeros(self.shape, tensor.dtype)
        whole[self.outputs if self.inputs is None else np.ix_(self.outputs, self.inputs)] = tensor
        return whole

    def take(self, whole: Array) -> Array:
        """Return the network's tensor from its initialiser."""
        return whole[self.outputs if self.inputs is None else np.ix_(self.outputs, self.inputs)]


class Graph:
    """The nodes and initialisers of a network in eval mode.

    It maps images, (N, in_chans, H, W), to logits, (N, K), both float32.

    Args:
        network: the network.
        dtype: the type of everything between images and head. The head computes in float32.

    Attributes:
        placements: of every initialiser that holds weights, by its name.
        norms: for every batch norm, by its key, the initialisers that hold what it adds and, if no convolution
            precedes it, what it multiplies by.

    Raises:
        ModelError: a layer has no form in ONNX. It is a TypeError.
    """

    def __init__(self, network: Network, *, dtype: type[np.floating[Any]] = np.float32) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.placements: dict[str, Placement] = {}
        self.norms: dict[str, list[str]] = {}
        self._rectified: dict[str, GraphValue] = {}
        self._emit(network)

    def proto(self, *, name: str, images: Sequence[int | str], classes: int, opset: int) -> onnx.ModelProto:
        """Return the whole model.

        Args:
            name: of the graph.
            images: the shape of the input; a text is an open size.
            classes: K.
            opset: the version of ONNX's operators.
        """
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                name,
                [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [images[0], classes])],
                [numpy_helper.from_array(value, key) for key, value in self.constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=10,
        )

    def _emit(self, network: Network) -> None:
        """Add all nodes of a network."""
        plan = blueprint(network.spec, in_chans=network.in_chans, num_classes=network.num_classes)
        values = [self._cast(GraphValue("images", np.arange(network.in_chans), network.in_chans), self.dtype)]
        for index, (block, stage) in enumerate(zip(plan.stem, network.stem, strict=True)):
            values.append(self._block(block, stage, f"stem.{index}", values[-1]))
        before, last = values[1], values[-1]
        for index, (cell_plan, cell) in enumerate(zip(plan.cells, network.cells, strict=True)):
            assert isinstance(cell, CellModule)
            before, last = last, self._cell(cell_plan, cell, f"cells.{index}", before, last)
        self._head(network.classifier, self._cast(last, np.float32))

    def _cell(
        self, plan: CellBlueprint, cell: CellModule, key: str, before: GraphValue, last: GraphValue
    ) -> GraphValue:
        inputs = (before, last)
        nodes = {
            source: self._block(block, cell.preprocess[str(source)], f"{key}.preprocess.{source}", inputs[source])
            for source, block in plan.preprocess.items()
        }
        if plan.zeros:
            nodes |= dict.fromkeys(plan.zeros, self._zero(plan, last))
        for edge, blocks in plan.edges.items():
            for name, block in blocks.items():
                path = f"edges.{edge}.{name}"
                output = self._block(block, cell.get_submodule(path), f"{key}.{path}", nodes[edge[0]])
                if edge[1] in nodes:
                    total = self._node("Add", [nodes[edge[1]].name, output.name])
                    output = GraphValue(total, output.positions, output.width)
                nodes[edge[1]] = output
        output = self._concat([nodes[node] for node in plan.concat])
        if cell.denoise is None:
            return output
        added = self._block(plan.denoise, cell.denoise, f"{key}.denoise", output, like=output)
        return GraphValue(self._node("Add", [output.name, added.name]), output.positions, output.width)

    def _zero(self, plan: CellBlueprint, last: GraphValue) -> GraphValue:
        """Add the node that no edge leads to, of the size of the others."""
        channels, width = plan.inner.channels, aligned(plan.inner.channels)
        batch, pixels = self._node("Shape", [last.name], end=1), self._node("Shape", [last.name], start=2)
        if plan.stride > 1:
            pixels = self._node("Div", [pixels, self._integers([plan.stride])])
        shape = self._node("Concat", [batch, self._integers([width]), pixels], axis=0)
        return GraphValue(self._node("Expand", [self._real(0.0), shape]), np.arange(channels), width)

    def _head(self, classifier: nn.Module, x: GraphValue) -> None:
        """Add global average pooling and the linear layer, if there is one."""
        features = self._node("Flatten", [self._node("GlobalAveragePool", [x.name])])
        if isinstance(classifier, nn.Linear):
            shape = (classifier.out_features, x.width)
            outputs = np.arange(classifier.out_features)
            weights = [
                self._weight(
                    "classifier.weight", classifier.weight, Placement(shape, outputs, x.positions), np.float32
                ),
                self._weight("classifier.bias", classifier.bias, Placement(shape[:1], outputs), np.float32),
            ]
            self._node("Gemm", [features, *weights], output="logits", transB=1)
        else:
            self._node("Gather", [features, self._integers(x.positions)], output="logits", axis=1)

    def _block(
        self, block: Block, module: nn.Module, key: str, x: GraphValue, *, like: GraphValue | None = None
    ) -> GraphValue:
        """Add a block of the network. Its channels get the positions of `like`, if that is given."""
        for (index, norm), step in zip(folded(block), fold(block, module), strict=True):
            known = len(self.placements)
            x = self._step(step, f"{key}.{index}", x, like)
            if norm is not None:
                added = list(self.placements)[known:]
                self.norms[f"{key}.{norm}"] = [name for name in added if not name.endswith(".weight")]
        return x

    def _step(self, step: Step, key: str, x: GraphValue, like: GraphValue | None) -> GraphValue:
        match step:
            case nn.ReLU():
                if x.name not in self._rectified:
                    self._rectified[x.name] = GraphValue(self._node("Relu", [x.name]), x.positions, x.width)
                return self._rectified[x.name]
            case Halves():
                half = step.even.conv.out_channels
                shifted = self._slice(x, {2: (1, END), 3: (1, END)})  # x[:, :, 1:, 1:]
                even = self._conv(step.even, f"{key}.conv_1", x, half)
                odd = self._conv(step.odd, f"{key}.conv_2", shifted, aligned(2 * half) - half)
                return self._concat([even, odd])
            case Fold():
                return self._conv(step, key, x, aligned(step.conv.out_channels) if like is None else like.width, like)
            case DotProduct2d() | EmbeddedGaussian2d():
                return self._non_local(step, key, x)
            case Median2d():
                return self._median(x)
            case Affine():
                placement = Placement((x.width,), x.positions)
                scale, shift = (
                    self._weight(f"{key}.{name}", value, placement, trailing=2)
                    for name, value in (("scale", step.scale), ("shift", step.shift))
                )
                product = self._node("Mul", [x.name, scale])
                return GraphValue(self._node("Add", [product, shift]), x.positions, x.width)
            case nn.MaxPool2d() | nn.AvgPool2d():
                kind = "MaxPool" if isinstance(step, nn.MaxPool2d) else "AveragePool"
                kernel, stride, padding = step.kernel_size, step.stride, step.padding
                name = self._node(kind, [x.name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)
                return GraphValue(name, x.positions, x.width)
        raise ModelError(f"expected a layer that ONNX can express, got {type(step).__name__}")

    def _conv(self, step: Fold, key: str, x: GraphValue, width: int, like: GraphValue | None = None) -> GraphValue:
        conv, weight, bias = step.conv, step.weight(), step.bias()
        kernel = tuple(weight.shape[2:])
        if conv.groups == 1:
            outputs = np.arange(conv.out_channels) if like is None else like.positions
            placement, groups = Placement((width, x.width, *kernel), outputs, x.positions), 1
        else:  # depthwise
            outputs, width = x.positions, x.width
            placement, groups = Placement((width, 1, *kernel), outputs), width
        inputs = [x.name, self._weight(f"{key}.weight", weight, placement)]
        if bias is not None:
            inputs.append(self._weight(f"{key}.bias", bias, Placement((width,), outputs)))
        name = self._node(
            "Conv",
            inputs,
            kernel_shape=kernel,
            strides=conv.stride,
            pads=[*conv.padding, *conv.padding],
            dilations=conv.dilation,
            group=groups,
        )
        return GraphValue(name, outputs, width)

    def _non_local(self, step: DotProduct2d | EmbeddedGaussian2d, key: str, x: GraphValue) -> GraphValue:
        """Add a non-local operation, which replaces every pixel by a weighted sum of all pixels; see `NonLocal`."""
        flat = self._flat(x)  # (N, C, HW)
        pixels = self._node("Transpose", [flat], perm=[0, 2, 1])  # (N, HW, C)
        if isinstance(step, EmbeddedGaussian2d):
            width = aligned(step.theta.out_channels)
            queries, keys = (
                self._flat(self._conv(Fold(conv, None), f"{key}.{name}", x, width))
                for name, conv in (("theta", step.theta), ("phi", step.phi))
            )  # (N, d, HW)
            queries = self._node("Mul", [self._node("Transpose", [queries], perm=[0, 2, 1]), self._real(step.scale)])
            weights = self._node("Softmax", [self._node("MatMul", [queries, keys])], axis=2)
            mixed = self._node("MatMul", [weights, pixels])
        else:
            # Divided before the product: a sum over all pixels can leave the range of fp16.
            count = self._node("Cast", [self._node("Shape", [flat], start=2)], to=_type(self.dtype))  # HW
            mean = self._node("MatMul", [self._node("Div", [flat, count]), pixels])  # (N, C, C)
            mixed = self._node("MatMul", [pixels, mean])
        turned = self._node("Transpose", [mixed], perm=[0, 2, 1])
        shape = self._node("Shape", [x.name])
        return GraphValue(self._node("Reshape", [turned, shape]), x.positions, x.width)

    def _median(self, x: GraphValue) -> GraphValue:
        """Add the median of each channel's 3x3 pixels; the image's edge is repeated around it."""
        for axis in (2, 3):
            ends = [self._slice(x, {axis: span}).name for span in ((0, 1), (-1, END))]
            x = GraphValue(self._node("Concat", [ends[0], x.name, ends[1]], axis=axis), x.positions, x.width)
        spans = ((0, -2), (1, -1), (2, END))
        values = [self._slice(x, {2: rows, 3: columns}).name for rows in spans for columns in spans]
        for first, second in MEDIAN_OF_NINE:
            pair = [values[first], values[second]]
            values[first], values[second] = self._node("Min", pair), self._node("Max", pair)
        return GraphValue(values[4], x.positions, x.width)

    def _flat(self, x: GraphValue) -> str:
        """Add a reshape from (N, C, H, W) to (N, C, HW)."""
        return self._node("Reshape", [x.name, self._integers([0, x.width, -1])])

    def _slice(self, x: GraphValue, spans: Mapping[int, tuple[int, int]]) -> GraphValue:
        """Add x[start:end] along some axes; spans: (start, end) by axis."""
        bounds = [[start for start, _ in spans.values()], [end for _, end in spans.values()], list(spans)]
        return GraphValue(self._node("Slice", [x.name, *map(self._integers, bounds)]), x.positions, x.width)

    def _concat(self, values: Sequence[GraphValue]) -> GraphValue:
        if len(values) == 1:
            return values[0]
        starts = np.cumsum([0, *(value.width for value in values)])
        positions = np.concatenate([value.positions + start for value, start in zip(values, starts, strict=False)])
        return GraphValue(self._node("Concat", [value.name for value in values], axis=1), positions, int(starts[-1]))

    def _cast(self, x: GraphValue, dtype: type[np.floating[Any]]) -> GraphValue:
        if self.dtype == np.float32:
            return x
        return GraphValue(self._node("Cast", [x.name], to=_type(dtype)), x.positions, x.width)

    def _node(self, kind: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        output = f"{kind.lower()}_{len(self.nodes)}" if output is None else output
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _weight(
        self,
        key: str,
        value: Tensor,
        placement: Placement,
        dtype: type[np.floating[Any]] | None = None,
        *,
        trailing: int = 0,
    ) -> str:
        """Add weights as an initialiser with `trailing` axes of size 1 at its end, and return its name."""
        whole = placement.put(value.detach().double().cpu().numpy())
        with np.errstate(over="ignore"):  # the exporter looks for infinities
            self.constants[key] = whole.astype(dtype or self.dtype).reshape(*whole.shape, *[1] * trailing)
        self.placements[key] = placement
        return key

    def _real(self, value: float) -> str:
        name = f"real_{len(self.constants)}"
        self.constants[name] = np.array([value], dtype=self.dtype)
        return name

    def _integers(self, values: Sequence[int] | Positions) -> str:
        name = f"integers_{len(self.constants)}"
        self.constants[name] = np.array(values, dtype=np.int64)
        return name


def _type(dtype: type[np.floating[Any]]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def aligned(channels: int) -> int:
    """Return the smallest multiple of ALIGNMENT that holds so many channels."""
    return -(-channels // ALIGNMENT) * ALIGNMENT
