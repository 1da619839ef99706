"""Reading an ONNX file that nobody vouches for: whatever is wrong with it is one line, before it costs anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import get_args

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper
from onnx.checker import ValidationError
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.errors import OnnxFileError

MAX_GRAPH = 512 * 2**20  # bytes of the file itself; larger weights lie beside it
MAX_WEIGHTS = 16 * 2**30  # bytes of the files beside it
MAX_VALUE = 2**30  # numbers in one tensor between two nodes, for one image
CHUNK = 2**20


@dataclass(frozen=True)
class Opened:
    """A file's graph with all its weights, and the sha256 of the file and of those beside it that hold weights."""

    path: Path
    proto: onnx.ModelProto
    sha256: str

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that the file carries, by name."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @property
    def ours(self) -> bool:
        """Whether it says that it was written by robnet_zoo."""
        return self.proto.producer_name == "robnet_zoo" and "spec" in self.metadata

    @property
    def precision(self) -> Precision | None:
        """As a file of ours says; None for files of others."""
        said = self.metadata.get("precision")
        return next((each for each in get_args(Precision) if self.ours and each == said), None)


def read(path: str | os.PathLike[str]) -> Opened:
    """A file with its external data.

    The hash is of the file and, one after the other in the order of their names, of the files beside it.
    Raises OnnxFileError for what cannot be read, for a graph of more than half a gigabyte, for weights outside the
    file's folder, and for a graph that asks for tensors of billions of numbers.
    """
    place = Path(path)
    try:
        _check_file(place, place, MAX_GRAPH)
        data = place.read_bytes()
        digest = hashlib.sha256(data)
        proto = onnx.ModelProto.FromString(data)
        del data
        tensors = list(_tensors(proto))
        locations = sorted({ExternalDataInfo(tensor).location for tensor in tensors if uses_external_data(tensor)})
        folder = place.parent.resolve()
        for location in locations:
            if not (folder / location).resolve().is_relative_to(folder):
                raise OnnxFileError(place, f"expected its weights in its own folder, got {location!r}")
            _check_file(place, folder / location, MAX_WEIGHTS)
            _add(digest, folder / location)
        for tensor in tensors:
            _check_range(place, folder, tensor)
        load_external_data_for_model(proto, str(folder))
    except OSError as error:
        what = "cannot be read" if error.filename in (None, str(place)) else f"{error.filename} cannot be read"
        raise OnnxFileError(place, f"{what}: {error.strerror or error}") from error
    except (DecodeError, ValidationError, ValueError, TypeError) as error:
        raise OnnxFileError(place, f"expected an ONNX file, got one that cannot be read: {error}") from error
    _check_sizes(place, proto)
    return Opened(place, proto, digest.hexdigest())


def _check_file(path: Path, file: Path, limit: int) -> None:
    found = file.stat()
    if not file.is_file():
        raise OnnxFileError(path, f"expected {file.name} to be a plain file, got a folder or a device")
    if found.st_size > limit:
        raise OnnxFileError(path, f"expected {file.name} of at most {limit:,} bytes, got {found.st_size:,}")


def _add(digest: hashlib._Hash, file: Path) -> None:
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)


def _check_range(path: Path, folder: Path, tensor: onnx.TensorProto) -> None:
    """Whether a tensor's external data lie in their file, and no tensor has more numbers than data."""
    if any(size < 0 for size in tensor.dims):
        raise OnnxFileError(path, f"expected {tensor.name} of a size, got {list(tensor.dims)}")
    numbers = prod(tensor.dims)
    if uses_external_data(tensor):
        info = ExternalDataInfo(tensor)
        start, size = info.offset or 0, (folder / info.location).stat().st_size
        held = size - start if info.length is None else info.length
        if start < 0 or held < 0 or start + held > size:
            expected = f"expected {tensor.name} within {info.location}, of {size:,} bytes"
            raise OnnxFileError(path, f"{expected}, got {held:,} from {start:,} on")
    else:
        held = tensor.ByteSize()
    if 2 * held < numbers:  # two numbers of four bits a byte
        raise OnnxFileError(path, f"expected {numbers:,} numbers in {tensor.name}, got {held:,} bytes")


def _check_sizes(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a graph that would ask for gigabytes for one image; sizes that are open count as 1.

    A graph whose sizes cannot be inferred is left to ONNX Runtime, which says what is wrong with it.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # ValueError: of more than 2 GiB
        return
    graph = inferred.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if prod(max(size, 1) for size in sizes) > MAX_VALUE:
            raise OnnxFileError(path, f"expected tensors of at most {MAX_VALUE:,} numbers, got {value.name} of {sizes}")


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All constants, also those of functions and of graphs inside nodes."""
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
