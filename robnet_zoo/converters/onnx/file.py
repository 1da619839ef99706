"""Read untrusted ONNX files: any defect is an error of one line, before it costs time or memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import get_args

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.core.documents import fspath
from robnet_zoo.errors import OnnxFileError

MAX_GRAPH = 512 * 2**20  # bytes of the file itself; larger weights are in files beside it
MAX_WEIGHTS = 16 * 2**30  # bytes of the files beside it
MAX_VALUE = 2**30  # numbers in one tensor between two nodes, for one image
CHUNK = 2**20
SEVEN_BITS = 64  # 255 * 2 * 64 is below 2^15


@dataclass(frozen=True)
class OnnxFile:
    """A file's graph with all its weights, and the sha256 of the file and of the files beside it that hold weights."""

    path: Path
    proto: onnx.ModelProto
    sha256: str

    @property
    def metadata(self) -> dict[str, str]:
        """Return the texts in the file's metadata, by name."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @property
    def ours(self) -> bool:
        """Return whether the file says that robnet_zoo has written it."""
        return self.proto.producer_name == "robnet_zoo" and "spec" in self.metadata

    @property
    def wide_weights(self) -> int:
        """Return how many tensors of weights use the eighth bit of int8.

        Multiplied by unsigned bytes, two products of such weights may leave the 16 bits in which processors without
        VNNI add them.
        """
        kind = onnx.TensorProto.INT8
        matrices = [
            tensor for tensor in self.proto.graph.initializer if tensor.data_type == kind and len(tensor.dims) > 1
        ]
        return sum(bool((abs(numpy_helper.to_array(tensor).astype(int)) > SEVEN_BITS).any()) for tensor in matrices)

    @property
    def precision(self) -> Precision | None:
        """Return the precision that a file of ours names; None for files of others."""
        named = self.metadata.get("precision")
        return next((precision for precision in get_args(Precision) if self.ours and precision == named), None)


def read_file(path: str | os.PathLike[str]) -> OnnxFile:
    """Read a file with its external data.

    The hash is of the file, followed by the files beside it in the order of their names.

    Raises:
        OnnxFileError: the file cannot be read, its graph is larger than half a gigabyte, its weights are outside its
            folder, or it asks for tensors of billions of numbers.
    """
    file = Path(fspath(path))
    try:
        _check_file(file, file, MAX_GRAPH)
        data = file.read_bytes()
        digest = hashlib.sha256(data)
        proto = onnx.ModelProto.FromString(data)
        del data
        tensors = list(_tensors(proto))
        locations = sorted({ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)})
        parts = {location: _part(file, location) for location in locations}
        for part in parts.values():
            _check_file(file, part, MAX_WEIGHTS)
            _add(digest, part)
        for tensor in tensors:
            _check_range(file, parts, tensor)
        for tensor in filter(uses_external_data, tensors):
            _take_in(tensor, parts[ExternalDataInfo(tensor).location])
    except OSError as error:
        what = "cannot be read" if error.filename in (None, str(file)) else f"{error.filename} cannot be read"
        raise OnnxFileError(file, f"{what}: {error.strerror or error}") from error
    except (DecodeError, ValidationError, ValueError, TypeError) as error:
        raise OnnxFileError(file, f"expected an ONNX file, got one that cannot be read: {error}") from error
    _check_sizes(file, proto)
    return OnnxFile(file, proto, digest.hexdigest())


def _part(file: Path, location: str) -> Path:
    """Return the path of a file that holds weights of a model: in the model's folder, or linked as the model is.

    Where the model is a link, as in the cache of Hugging Face, links beside it may lead to the folder that it leads to.

    Raises: OnnxFileError for a path or a link that leads anywhere else.
    """
    path = file.parent / location
    inside = not Path(location).is_absolute() and ".." not in Path(location).parts
    folders = (file.parent.resolve(), *([file.resolve().parent] if file.is_symlink() else []))
    if inside and any(path.resolve().is_relative_to(folder) for folder in folders):
        return path
    link = f", a link to {path.resolve()}" if inside else ""
    raise OnnxFileError(file, f"expected its weights in its own folder, got {location!r}{link}")


def _take_in(tensor: onnx.TensorProto, part: Path) -> None:
    """Move the numbers of a tensor from the file that holds them into the graph.

    ONNX's own function for this refuses links.
    """
    info = ExternalDataInfo(tensor)
    with open(part, "rb") as stream:
        stream.seek(info.offset or 0)
        tensor.raw_data = stream.read() if info.length is None else stream.read(info.length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_file(path: Path, part: Path, limit: int) -> None:
    """Raise an OnnxFileError unless a part of a model, its file or one beside it, is a plain file within the limit."""
    size = part.stat().st_size
    if not part.is_file():
        raise OnnxFileError(path, f"expected {part.name} to be a plain file, got a folder or a device")
    if size > limit:
        raise OnnxFileError(path, f"expected {part.name} of at most {limit:,} bytes, got {size:,}")


def _add(digest: hashlib._Hash, file: Path) -> None:
    """Add a file's bytes to a hash, without holding all of them in memory."""
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)


def _check_range(path: Path, parts: Mapping[str, Path], tensor: onnx.TensorProto) -> None:
    """Raise an OnnxFileError for external data beyond the end of their file, or a tensor of more numbers than data."""
    if any(size < 0 for size in tensor.dims):
        raise OnnxFileError(path, f"expected {tensor.name} of a size from 0 on, got {list(tensor.dims)}")
    numbers = prod(tensor.dims)
    if uses_external_data(tensor):
        info = ExternalDataInfo(tensor)
        start, size = info.offset or 0, parts[info.location].stat().st_size
        held = size - start if info.length is None else info.length
        if start < 0 or held < 0 or start + held > size:
            expected = f"expected {tensor.name} within {info.location}, of {size:,} bytes"
            raise OnnxFileError(path, f"{expected}, got {held:,} from {start:,} on")
    else:
        held = tensor.ByteSize()
    if 2 * held < numbers:  # a byte holds two numbers of four bits
        raise OnnxFileError(path, f"expected {numbers:,} numbers in {tensor.name}, got {held:,} bytes")


def _check_sizes(path: Path, proto: onnx.ModelProto) -> None:
    """Raise an OnnxFileError for a graph that needs gigabytes for a single image; open sizes count as 1.

    A graph whose sizes cannot be inferred is left to ONNX Runtime, which says what is wrong with it.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # ValueError: more than 2 GiB
        return
    graph = inferred.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if prod(max(size, 1) for size in sizes) > MAX_VALUE:
            raise OnnxFileError(path, f"expected tensors of at most {MAX_VALUE:,} numbers, got {value.name} of {sizes}")


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all constants, including those of functions and of graphs inside nodes."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            continue
        for attribute in nodes.pop().attribute:
            value = helper.get_attribute_value(attribute) if attribute.type else None
            several = value if isinstance(value, list) else [value]
            for item in several:
                if isinstance(item, onnx.TensorProto):
                    yield item
                elif isinstance(item, onnx.SparseTensorProto):
                    yield from (item.values, item.indices)
                elif isinstance(item, onnx.GraphProto):
                    graphs.append(item)
