"""Turn an ONNX file of ours back into a torch model: its spec is in the metadata, its weights in the initialisers."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from robnet_zoo.converters.onnx.file import OnnxFile, read_file
from robnet_zoo.converters.onnx.graph import DTYPES, Array, Graph
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network

SPARE = 2**20  # numbers by which a spec may exceed its file, such as those of a head with fewer classes


def load(path: str | os.PathLike[str]) -> Network:
    """Return the network of a file of ours, in float32 and eval mode.

    Its logits are within 1e-6 of the file's, relative to the largest. For a file in fp16 or int8 it is the float32
    twin, with the file's own weights and without the rounding of activations. A batch norm that was folded stays in
    the convolution before it; the network's norms only add a shift.

    Raises:
        OnnxFileError: the file is not ours, or its graph or weights are not those of its spec.
    """
    return rebuild(read_file(path))


def rebuild(file: OnnxFile) -> Network:
    """Return the network of a file that is in memory already; see `load`."""
    if not file.ours:
        raise OnnxFileError(file.path, "expected a file that robnet_zoo has exported, got one without a spec")
    try:
        spec = Genotype.loads(file.metadata["spec"])
    except ValueError as error:
        raise OnnxFileError(file.path, f"expected a spec in its metadata, got: {error}") from error
    arrays = _arrays(file)
    stem = arrays.get("stem.0.0.weight")
    precision = file.precision
    if stem is None or stem.ndim != 4 or precision is None:
        got = f"got a file by version {file.metadata.get('version', 'unknown')}"
        raise OnnxFileError(file.path, f"expected weights by their names, as this version writes them, {got}")
    held = sum(array.size for array in arrays.values())
    if parameters(spec) > 2 * held + SPARE:  # before memory is asked for them
        got = f"got {held:,} in the file and {parameters(spec):,} in the spec"
        raise OnnxFileError(file.path, f"expected the weights of its spec, {got}")
    head = arrays.get("classifier.weight")
    classes = 0 if head is None else len(head)
    network = compile(spec, in_chans=stem.shape[1], num_classes=classes).eval()
    graph = Graph(network, dtype=DTYPES[precision])
    if precision != "int8" and list(file.proto.graph.node) != graph.nodes:
        raise OnnxFileError(file.path, "expected the graph of its spec, got another")
    tensors = {}
    for name, placement in graph.placements.items():
        array = arrays.get(name)
        if array is None or array.size != np.prod(placement.shape):
            got = "none" if array is None else str(array.shape)
            raise OnnxFileError(file.path, f"expected an initialiser {name} of {placement.shape}, got {got}")
        tensors[name] = torch.from_numpy(placement.take(array.reshape(placement.shape)).astype(np.float64))
    with torch.no_grad():
        _fill(network, graph, tensors)
    return network


def _fill(network: Network, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors, by the names of their initialisers, into a network."""
    for name, tensor in tensors.items():
        if name.endswith(".weight") or name.startswith("classifier."):
            network.get_parameter(name).copy_(tensor)
    for key, names in graph.norms.items():
        values = {name: tensors[name] for name in names}
        scales = [value for name, value in values.items() if name.endswith(".scale")]
        shift = torch.cat([value for name, value in values.items() if not name.endswith(".scale")])
        _set(network.get_submodule(key), scales[0] if scales else torch.ones_like(shift), shift)


def _set(norm: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Make a batch norm in eval mode compute x * scale + shift, both (C,) and float64."""
    assert isinstance(norm, nn.BatchNorm2d)
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


def _arrays(file: OnnxFile) -> dict[str, Array]:
    """Return the initialisers as numbers, by the names that they had before quantisation."""
    try:
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.proto.graph.initializer}
        for node in file.proto.graph.node:
            name = node.input[0] if node.op_type == "DequantizeLinear" and node.input else ""
            if name.endswith("_quantized") and name in arrays:
                arrays[name.removesuffix("_quantized")] = _dequantised(node, arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise OnnxFileError(file.path, f"expected initialisers of numbers, got: {error}") from error
    return arrays


def _dequantised(node: onnx.NodeProto, arrays: Mapping[str, Array]) -> Array:
    """Return (values - zero point) * scale, along the axis of the channels."""
    values, scale = arrays[node.input[0]], arrays[node.input[1]]
    zero = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(1, values.dtype)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[attributes.get("axis", 1)] = -1
    scale, zero = scale.reshape(shape), zero.reshape(shape if zero.size > 1 else [1] * values.ndim)
    numbers: Array = (values.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
    return numbers
