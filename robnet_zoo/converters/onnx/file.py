"""Read untrusted ONNX files: any defect is an error of one line, before it costs time or memory."""

from __future__ import annotations

import copy
import faulthandler
import hashlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.core.documents import fspath
from robnet_zoo.errors import OnnxFileError, printable

MAX_GRAPH = 512 * 2**20  # bytes of the file itself; larger weights are in files beside it
MAX_WEIGHTS = 16 * 2**30  # bytes of the files beside it
MAX_CONSTANTS = 2**30  # numbers in all constants that are computed when a file is opened
SIZES: Mapping[str, tuple[int, ...]] = {  # which inputs of an operator say how many numbers it makes
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
MAX_VALUE = 2**27  # numbers in one tensor between two nodes, for all images that a file is tried on
MAX_SPARSE = 2**27  # numbers in all sparse tensors of a file, with their zeros
RISKY = {"Slice", "Split"}  # operators at which the inference of shapes may end the process
TRIAL_SECONDS = (10, 120)  # that copies of this process may take for such a file, one after the other
CHANNELS = (1, 3, 4)  # sizes that tell the axis of the channels from rows and columns
SIDES = (32, 224)  # tried in turn if a file leaves rows and columns open
PROBED = 5  # images that a file is tried on
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
        """Return how many tensors of weights use the eighth bit of int8, wherever in the graph they are held.

        Multiplied by unsigned bytes, two products of such weights may leave the 16 bits in which processors without
        VNNI add them.
        """
        return sum(_is_wide(tensor) for tensor in _tensors(self.proto))

    @property
    def precision(self) -> Precision | None:
        """Return the precision that a file of ours names; None for files of others."""
        named = self.metadata.get("precision")
        return next((precision for precision in get_args(Precision) if self.ours and precision == named), None)


def read_file(path: str | os.PathLike[str]) -> OnnxFile:
    """Read a file with its external data. Sparse tensors become dense.

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
        _check_sparse(file, proto)
        for tensor in filter(uses_external_data, tensors):
            _take_in(tensor, parts[ExternalDataInfo(tensor).location])
        _fill_sparse(file, proto)
    except OSError as error:
        what = "cannot be read" if error.filename in (None, str(file)) else f"{error.filename} cannot be read"
        raise OnnxFileError(file, f"{what}: {error.strerror or error}") from error
    except (DecodeError, ValidationError, ValueError, TypeError, KeyError) as error:
        raise OnnxFileError(file, f"expected an ONNX file, got one that cannot be read: {error}") from error
    _check_trial(file, proto)
    _check_sizes(file, proto)
    return OnnxFile(file, proto, digest.hexdigest())


def session_on_cpu(source: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Open a session on the CPU. ONNX Runtime would else try a second time after some errors, and print that.

    Args:
        source: the path of a file, or its bytes.
        options: of the session.

    Raises: one of `classifier.RUNTIME_ERRORS`.
    """
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)


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


def _check_sparse(path: Path, proto: onnx.ModelProto) -> None:
    """Raise an OnnxFileError for sparse tensors that would fill gigabytes with zeros."""
    shapes = [list(sparse.dims) for sparse in _sparse_tensors(proto)]
    if any(size < 0 for shape in shapes for size in shape):
        raise OnnxFileError(path, f"expected sparse tensors of sizes from 0 on, got {shapes}")
    numbers = sum(prod(shape) for shape in shapes)
    if numbers > MAX_SPARSE:
        raise OnnxFileError(path, f"expected sparse tensors of at most {MAX_SPARSE:,} numbers, got {numbers:,}")


def _sparse_tensors(proto: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for part in _graphs_and_nodes(proto):
        if isinstance(part, onnx.GraphProto):
            yield from part.sparse_initializer
        else:
            yield from (value for value in _values(part) if isinstance(value, onnx.SparseTensorProto))


def _fill_sparse(path: Path, proto: onnx.ModelProto) -> None:
    """Replace sparse tensors of a file by dense ones, as ONNX Runtime does."""
    for part in _graphs_and_nodes(proto):
        if isinstance(part, onnx.GraphProto):
            part.initializer.extend(_dense(path, sparse) for sparse in part.sparse_initializer)
            del part.sparse_initializer[:]
        elif part.op_type == "Constant":
            for attribute in part.attribute:
                if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    dense = helper.make_attribute("value", _dense(path, attribute.sparse_tensor))
                    attribute.CopyFrom(dense)


def _dense(path: Path, sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Return a sparse tensor of a file with its zeros. Raises OnnxFileError for values outside it or without index."""
    name, shape = sparse.values.name, tuple(sparse.dims)
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    numbers = np.zeros(prod(shape), values.dtype)
    flat = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
    if flat.shape != values.shape or not ((flat >= 0) & (flat < numbers.size)).all():
        raise OnnxFileError(path, f"expected {len(values)} indices within {name!r}, of {list(shape)}, got others")
    numbers[flat] = values
    return numpy_helper.from_array(numbers.reshape(shape), name)


def _check_trial(path: Path, proto: onnx.ModelProto) -> None:
    """Raise an OnnxFileError for a graph with which ONNX or ONNX Runtime end their process.

    Both do so where an axis is too short for what comes before a Slice, or a Split has more outputs than it says. A
    copy of this process opens such graphs first; on Linux only. A copy has no other threads, so it may wait for a lock
    that one of them held, for ever: whether a graph is slow is for a second copy to say.
    """
    risky = any(isinstance(part, onnx.NodeProto) and part.op_type in RISKY for part in _graphs_and_nodes(proto))
    if not risky or sys.platform != "linux":
        return
    for seconds in TRIAL_SECONDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of copies of a process with threads
            child = os.fork()
        if not child:
            _open_and_exit(path, proto, seconds)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGALRM:
            break
    if code < 0:
        slow = -code == signal.SIGALRM
        does = f"takes more than {seconds} s" if slow else f"ends its process by signal {-code}"
        raise OnnxFileError(path, f"expected a graph that ONNX Runtime can open, got one on which it {does}")


def _open_and_exit(path: Path, proto: onnx.ModelProto, seconds: int) -> None:
    """Open a file with ONNX and ONNX Runtime, printing nothing, and end the process, whatever they raise."""
    try:
        for number in (signal.SIGABRT, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(seconds)
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with suppress(Exception):
            _inferred(proto)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1  # the copy has no other
        session_on_cpu(str(path), options)
    finally:
        os._exit(0)


def _check_sizes(path: Path, proto: onnx.ModelProto) -> None:
    """Raise an OnnxFileError for a graph that needs gigabytes for the few images that it is tried on.

    What does not depend on the image is computed when a file is opened, and all of it may be in memory together. A
    graph whose sizes cannot be inferred is left to ONNX Runtime, which says what is wrong with it. No inference knows
    sizes that the numbers of an image decide.
    """
    for node in _sized_by_the_image(proto.graph):
        got = f"got those of {node.op_type} {printable(node.name or node.output[0])}"
        raise OnnxFileError(path, f"expected sizes that do not depend on the numbers in an image, {got}")
    try:
        graph = _inferred(proto).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # ValueError: more than 2 GiB
        return
    values = [*graph.input, *graph.output, *graph.value_info]
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    numbers = {name: prod(max(size, 1) for size in sizes) for name, sizes in shapes.items()}  # 1 if it is not known
    constants = list(_computed_once(graph))
    computed = sum(numbers.get(name, 0) for name in constants)
    if computed > MAX_CONSTANTS:
        expected = f"expected constants that are computed of at most {MAX_CONSTANTS:,} numbers in all"
        raise OnnxFileError(path, f"{expected}, got {computed:,}")
    held = {tensor.name for tensor in graph.initializer}.union(constants)
    for name, sizes in shapes.items():
        if name not in held and numbers[name] > MAX_VALUE:
            expected = f"expected tensors of at most {MAX_VALUE:,} numbers for the images that it is tried on"
            raise OnnxFileError(path, f"{expected}, got {name} of {sizes}")


def _sized_by_the_image(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that make as many numbers as the numbers in an image, and not only its sizes, say."""
    numbers = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Shape", "Size") or numbers.isdisjoint(node.input):
            continue
        numbers |= set(node.output)
        if any(node.input[at] in numbers for at in SIZES.get(node.op_type, ()) if at < len(node.input)):
            yield node


def _computed_once(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of the values that a graph computes without its inputs; nodes with graphs inside are left out."""
    kept = {tensor.name for tensor in graph.initializer}
    dependent = {value.name for value in graph.input} - kept
    for node in graph.node:
        if not dependent.isdisjoint(node.input) or any(attribute.HasField("g") for attribute in node.attribute):
            dependent |= set(node.output)
        else:
            yield from node.output


def channels_are_last(axes: Sequence[int | None]) -> bool:
    """Return whether an image's axes are (H, W, C) rather than (C, H, W), as far as the known ones tell."""
    return len(axes) == 3 and axes[2] in CHANNELS and axes[0] not in CHANNELS


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with the shapes of its values, for the images that it is tried on; `OnnxClassifier` makes them."""
    held = {tensor.name for tensor in proto.graph.initializer}
    axes = [value.type.tensor_type.shape.dim for value in proto.graph.input if value.name not in held]
    images = axes[0] if len(axes) == 1 and len(axes[0]) == 4 else []
    given = [copy.deepcopy(axis) for axis in images]
    last = channels_are_last([axis.dim_value for axis in images[1:]])
    sizes = [PROBED, *((SIDES[-1], SIDES[-1], 3) if last else (3, SIDES[-1], SIDES[-1]))]
    for axis, size in zip(images, sizes, strict=False):
        if axis.dim_value <= 0:
            axis.dim_value = size
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    finally:
        for axis, before in zip(images, given, strict=True):
            axis.CopyFrom(before)


def _is_wide(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor is weights that use the eighth bit of int8."""
    if tensor.data_type != onnx.TensorProto.INT8 or len(tensor.dims) < 2:
        return False
    try:
        return bool((abs(numpy_helper.to_array(tensor).astype(int)) > SEVEN_BITS).any())
    except ValueError:  # damaged, in a function that nothing calls: ONNX Runtime does not look at it either
        return False


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all constants, including those of functions and of graphs inside nodes."""
    for part in _graphs_and_nodes(proto):
        if isinstance(part, onnx.GraphProto):
            yield from part.initializer
            for sparse in part.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            continue
        for value in _values(part):
            if isinstance(value, onnx.TensorProto):
                yield value
            elif isinstance(value, onnx.SparseTensorProto):
                yield from (value.values, value.indices)


def _graphs_and_nodes(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.NodeProto]:
    """Yield all graphs and nodes, including those of functions and inside nodes."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            yield graph
        else:
            node = nodes.pop()
            yield node
            graphs += [value for value in _values(node) if isinstance(value, onnx.GraphProto)]


def _values(node: onnx.NodeProto) -> Iterator[object]:
    """Yield the values of a node's attributes, those of lists one by one."""
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute) if attribute.type else None
        yield from value if isinstance(value, list) else [value]
