"""Back from one of our ONNX files to the torch model: spec from the metadata, weights from the initialisers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.converters.onnx.file import Opened, read
from robnet_zoo.converters.onnx.graph import Array, Graph
from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network

# Of the graph between images and logits.
DTYPES: Mapping[Precision, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}


def load(path: str | os.PathLike[str]) -> Network:
    """The network in one of our files, in float32 and eval mode: its logits are the file's to 1e-6 of the largest.

    Of a file in fp16 or int8 it is the twin in float32: the file's own weights, without the rounding of activations.
    A batch norm's fold stays in the convolution before it; the norms that a spec asks for add a shift, and no more.
    Raises OnnxFileError for files of others, and for one of ours whose graph or weights are not those of its spec.
    """
    return rebuild(read(path))


def rebuild(opened: Opened) -> Network:
    """`load`, of a file that is in memory already."""
    if not opened.ours:
        raise OnnxFileError(opened.path, "expected a file that robnet_zoo has exported, got one without a spec")
    try:
        spec = Genotype.loads(opened.metadata["spec"])
    except ValueError as error:
        raise OnnxFileError(opened.path, f"expected a spec in its metadata, got: {error}") from error
    arrays = _arrays(opened)
    stem = arrays.get("stem.0.0.weight")
    precision = opened.precision
    if stem is None or stem.ndim != 4 or precision is None:
        written = f"got one by version {opened.metadata.get('version', 'unknown')}"
        raise OnnxFileError(opened.path, f"expected weights by their names, as this version writes them, {written}")
    head = arrays.get("classifier.weight")
    classes = 0 if head is None else len(head)
    network = compile(spec, in_chans=stem.shape[1], num_classes=classes).eval()
    graph = Graph(network, dtype=DTYPES[precision])
    if precision != "int8" and list(opened.proto.graph.node) != graph.nodes:
        raise OnnxFileError(opened.path, "expected the graph of its spec, got another")
    taken = {}
    for name, place in graph.placements.items():
        array = arrays.get(name)
        if array is None or array.size != np.prod(place.shape):
            got = "none" if array is None else str(array.shape)
            raise OnnxFileError(opened.path, f"expected an initialiser {name} of {place.shape}, got {got}")
        taken[name] = torch.from_numpy(place.take(array.reshape(place.shape)).astype(np.float64))
    with torch.no_grad():
        _fill(network, graph, taken)
    return network


def _fill(network: Network, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".weight") or name.startswith("classifier."):
            network.get_parameter(name).copy_(tensor)
    for key, names in graph.norms.items():
        values = {name: tensors[name] for name in names}
        scales = [value for name, value in values.items() if name.endswith(".scale")]
        shift = torch.cat([value for name, value in values.items() if not name.endswith(".scale")])
        _set(network.get_submodule(key), scales[0] if scales else torch.ones_like(shift), shift)


def _set(norm: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Let a batch norm in eval mode compute x * scale + shift. Both: (C,), float64."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.affine:
        norm.weight.copy_(scale)
        norm.bias.copy_(shift)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
    else:
        norm.running_mean.copy_(-shift / scale)
        norm.running_var.copy_(scale**-2 - norm.eps)


def _arrays(opened: Opened) -> dict[str, Array]:
    """The initialisers by their names before quantisation, as numbers."""
    try:
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in opened.proto.graph.initializer}
        for node in opened.proto.graph.node:
            name = node.input[0] if node.op_type == "DequantizeLinear" and node.input else ""
            if name.endswith("_quantized") and name in arrays:
                arrays[name.removesuffix("_quantized")] = _dequantised(node, arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise OnnxFileError(opened.path, f"expected initialisers of numbers, got: {error}") from error
    return arrays


def _dequantised(node: onnx.NodeProto, arrays: Mapping[str, Array]) -> Array:
    """(values - zero point) * scale, along the axis of the channels."""
    values, scale = arrays[node.input[0]], arrays[node.input[1]]
    zero = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(1, values.dtype)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[attributes.get("axis", 1)] = -1
    scale, zero = scale.reshape(shape), zero.reshape(shape if zero.size > 1 else [1] * values.ndim)
    found: Array = (values.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
    return found
