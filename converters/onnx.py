"""A model as an ONNX file: `images`, (N, C, H, W) in [0, 1], in; `logits`, (N, K), out; N is free.

The graph is emitted from the blueprint, the compiler's other target: batch norms folded, every node rectified once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from robnet_zoo.blueprint import CellBlueprint, blueprint
from robnet_zoo.documents import write_atomically
from robnet_zoo.inference import Affine, fold
from robnet_zoo.network import Cell, Network
from robnet_zoo.operations import DotProduct2d, EmbeddedGaussian2d, FactorizedConv2d, Median2d
from robnet_zoo.version import __version__
from robnet_zoo.vocabulary import MEDIAN_OF_NINE, Size

OPSET = 20
PARITY = 1e-4  # largest difference of logits to torch's, both in float32


class ExportError(RuntimeError):
    """An export that cannot be, or that does not give the model's logits; nothing was written."""


def export(model: nn.Module, path: str | os.PathLike[str], *, opset: int = OPSET) -> float:
    """Write a model as ONNX, prove it, and return the largest difference of its logits to torch's.

    The file's metadata carries the spec, its hash and the input range. The proof runs the file in ONNX Runtime on
    random images at batches 1 and 7. Raises ExportError, and writes nothing, if the logits differ by more than 1e-4 or
    the model was not compiled from a spec.
    """
    if not isinstance(model, Network):
        raise ExportError(f"{path}: expected a model compiled from a spec, got {type(model).__name__}")
    proto = to_onnx(model, opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    serialized = proto.SerializeToString()
    differences = [_difference(model, serialized, batch) for batch in (1, 7)]
    for difference in differences:
        if not difference <= PARITY:  # NaN too
            raise ExportError(f"{path}: expected logits within {PARITY} of torch's, got {difference:.2g} away")
    write_atomically(path, serialized)
    return max(differences)


def to_onnx(model: Network, *, opset: int = OPSET) -> onnx.ModelProto:
    """The model in eval mode as an ONNX model in float32."""
    spec = model.spec
    plan = blueprint(spec, in_chans=model.in_chans, num_classes=model.num_classes)
    graph = _Graph()
    outputs = ["images"]
    for block, stage in zip(plan.stem, model.stem, strict=True):
        outputs.append(graph.chain(fold(block, stage), outputs[-1]))
    before, last = outputs[1], outputs[-1]
    for cell_plan, cell in zip(plan.cells, model.cells, strict=True):
        assert isinstance(cell, Cell)
        before, last = last, _cell(graph, cell_plan, cell, before, last)
    graph.node("Identity", [graph.head(model.classifier, last)], output="logits")
    images = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, ["batch", model.in_chans, *spec.network.input_size[1:]]
    )
    classes = model.num_classes or model.num_features
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    proto = helper.make_model(
        helper.make_graph(graph.nodes, spec.name, [images], [result], graph.constants),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="robnet_zoo",
        producer_version=__version__,
        ir_version=10,
    )
    helper.set_model_props(
        proto,
        {
            "spec": json.dumps(spec.model_dump(mode="json", exclude_none=True)),
            "spec_hash": spec.hash,
            "input_range": "[0, 1]",
        },
    )
    return proto


def _cell(graph: _Graph, plan: CellBlueprint, cell: Cell, before: str, last: str) -> str:
    inputs = (before, last)
    nodes = {
        source: graph.chain(fold(block, cell.preprocess[str(source)]), inputs[source])
        for source, block in plan.preprocess.items()
    }
    for edge, blocks in plan.edges.items():
        for name, block in blocks.items():
            output = graph.chain(fold(block, cell.get_submodule(f"edges.{edge}.{name}")), nodes[edge[0]])
            nodes[edge[1]] = graph.node("Add", [nodes[edge[1]], output]) if edge[1] in nodes else output
    output = graph.node("Concat", [nodes[node] for node in plan.concat], axis=1)
    return output if cell.denoise is None else _denoised(graph, plan, cell.denoise, output)


def _denoised(graph: _Graph, plan: CellBlueprint, block: nn.Module, x: str) -> str:
    filter, *rest = fold(plan.denoise, block)
    if isinstance(filter, DotProduct2d | EmbeddedGaussian2d):
        filtered = graph.non_local(filter, x, plan.output.channels, plan.output.size)
    else:
        filtered = graph.median(x, plan.output.size) if isinstance(filter, Median2d) else graph.chain([filter], x)
    return graph.node("Add", [x, graph.chain(rest, filtered)])


class _Graph:
    """Nodes and constants, growing. A rectified value is computed once and remembered."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._rectified: dict[str, str] = {}

    def node(self, kind: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        output = f"{kind.lower()}_{len(self.nodes)}" if output is None else output
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: Tensor | Sequence[int]) -> str:
        """Add an initializer, float32 or int64; returns its name."""
        array = value.detach().float().numpy() if isinstance(value, Tensor) else np.array(value, dtype=np.int64)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def chain(self, steps: Sequence[nn.Module], x: str) -> str:
        """Append the modules of a folded block, one behind the other."""
        for step in steps:
            x = self._step(step, x)
        return x

    def _step(self, step: nn.Module, x: str) -> str:
        match step:
            case nn.ReLU():
                if x not in self._rectified:
                    self._rectified[x] = self.node("Relu", [x])
                return self._rectified[x]
            case FactorizedConv2d():
                corner = [self.constant(v) for v in ([1, 1], [2**31, 2**31], [2, 3])]
                shifted = self.node("Slice", [x, *corner])  # x[:, :, 1:, 1:]
                return self.node("Concat", [self._step(step.conv_1, x), self._step(step.conv_2, shifted)], axis=1)
            case nn.Conv2d():
                weights = [step.weight] if step.bias is None else [step.weight, step.bias]
                return self.node(
                    "Conv",
                    [x, *map(self.constant, weights)],
                    kernel_shape=step.kernel_size,
                    strides=step.stride,
                    pads=[*step.padding, *step.padding],
                    dilations=step.dilation,
                    group=step.groups,
                )
            case Affine():
                scale, shift = (self.constant(value[:, None, None]) for value in (step.scale, step.shift))
                return self.node("Add", [self.node("Mul", [x, scale]), shift])
            case nn.MaxPool2d() | nn.AvgPool2d():
                kind = "MaxPool" if isinstance(step, nn.MaxPool2d) else "AveragePool"
                kernel, stride, padding = step.kernel_size, step.stride, step.padding
                return self.node(kind, [x], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)
        raise TypeError(f"expected a layer of the vocabulary, got {type(step).__name__}")

    def non_local(self, step: DotProduct2d | EmbeddedGaussian2d, x: str, channels: int, size: Size) -> str:
        """Every pixel as a weighted sum of all pixels of an image of (H, W) = size."""
        flat = self.node("Reshape", [x, self.constant([0, channels, -1])])  # (N, C, HW)
        pixels = self.node("Transpose", [flat], perm=[0, 2, 1])  # (N, HW, C)
        if isinstance(step, EmbeddedGaussian2d):
            theta, phi = (self.constant(conv.weight.flatten(1).t()) for conv in (step.theta, step.phi))  # (C, d)
            keys = self.node("Transpose", [self.node("MatMul", [pixels, phi])], perm=[0, 2, 1])
            queries = self.node(
                "Mul", [self.node("MatMul", [pixels, theta]), self.constant(torch.tensor([step.scale]))]
            )
            weights = self.node("Softmax", [self.node("MatMul", [queries, keys])], axis=2)
            mixed = self.node("MatMul", [weights, pixels])
        else:
            mixed = self.node("MatMul", [pixels, self.node("MatMul", [flat, pixels])])
            mixed = self.node("Mul", [mixed, self.constant(torch.tensor([1 / (size[0] * size[1])]))])
        turned = self.node("Transpose", [mixed], perm=[0, 2, 1])
        return self.node("Reshape", [turned, self.constant([0, channels, *size])])

    def median(self, x: str, size: Size) -> str:
        """The median of each channel's 3x3 pixels; the image, of (H, W) = size, has its edge repeated around it."""
        for axis in (2, 3):
            length = size[axis - 2]
            ends = [self._slice(x, axis, 0, 1), self._slice(x, axis, length - 1, length)]
            x = self.node("Concat", [ends[0], x, ends[1]], axis=axis)
        rows = [self._slice(x, 2, i, i + size[0]) for i in range(3)]
        values = [self._slice(row, 3, j, j + size[1]) for row in rows for j in range(3)]
        for first, second in MEDIAN_OF_NINE:
            pair = [values[first], values[second]]
            values[first], values[second] = self.node("Min", pair), self.node("Max", pair)
        return values[4]

    def _slice(self, x: str, axis: int, start: int, end: int) -> str:
        return self.node("Slice", [x, *(self.constant([number]) for number in (start, end, axis))])

    def head(self, classifier: nn.Module, x: str) -> str:
        """Global average pooling and the linear layer, if there is one."""
        features = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        if not isinstance(classifier, nn.Linear):
            return features
        weights = [self.constant(classifier.weight), self.constant(classifier.bias)]
        return self.node("Gemm", [features, *weights], transB=1)


def run(source: str | os.PathLike[str] | bytes, images: Tensor) -> Tensor:
    """The logits, (N, K), that ONNX Runtime gives on the CPU for images (N, C, H, W) in [0, 1].

    source: a file, or its bytes.
    """
    import onnxruntime

    file = source if isinstance(source, bytes) else str(Path(source))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy().astype(np.float32)})
    return torch.from_numpy(logits)


@torch.no_grad()
def _difference(model: Network, serialized: bytes, batch: int) -> float:
    shape = (batch, model.in_chans, *model.spec.network.input_size[1:])
    images = torch.rand(shape, generator=torch.Generator().manual_seed(batch))
    training = model.training
    expected = model.eval()(images).float()
    model.train(training)
    return float((run(serialized, images) - expected).abs().max())
