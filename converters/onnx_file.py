"""An ONNX file as a classifier of images (N, C, H, W), run by ONNX Runtime, whatever its own conventions are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.checker import ValidationError
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from torch import Tensor, nn

from robnet_zoo.converters.onnx_reader import GraphModule
from robnet_zoo.genotype import Genotype

RUNTIME_ERRORS = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoSuchFile,
    runtime.NotImplemented,
    runtime.RuntimeException,
)
FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
CHANNELS = (1, 3, 4)  # sizes by which the axis of the channels is told from rows and columns
SIDES = (32, 224)  # tried in turn where a file leaves rows and columns open
PROBED = 5  # images that a file is tried on
PROVIDERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "cpu": [("CPUExecutionProvider", {})],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})],
}


class OnnxFileError(RuntimeError):
    """A file that is no classifier of images, or cannot be read; one line that names the file and the reason."""


class OnnxFile:
    """A classifier: images (N, C, H, W) -> logits (N, K), of the images' dtype and on their device.

    The file's input may be float32, float16 or float64, NCHW or NHWC (told by which axis has 1, 3 or 4 entries), its
    batch free or fixed: then it runs in pieces of that size, the last one filled up. Of several outputs exactly one
    must be (N, K). An output whose rows are probabilities is replaced by its logarithms (`probabilities`), which are
    logits of the same function; a probability that rounds to 0 counts as the smallest normal number.

    sha256: of the file and, one after the other in the order of their names, of the files beside it that hold its
    weights, if it has such. probe: the random images that the file was tried on. Raises OnnxFileError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.proto, self.sha256 = self._read()
        self.session = self._open("cpu")
        self.input, self.dtype, (batch, *axes) = self._the_input()
        self.nhwc = axes[2] in CHANNELS and axes[0] not in CHANNELS
        self.batch = batch
        self.axes = (axes[2], axes[0], axes[1]) if self.nhwc else (axes[0], axes[1], axes[2])
        self.probe, self.output = self._try()
        answers = self._logits(self.probe)
        self.num_classes = answers.shape[1]
        self.probabilities = bool((answers >= 0).all() and ((answers.sum(1) - 1).abs() < 1e-3).all())

    @property
    def input_size(self) -> tuple[int, int, int] | None:
        """(C, H, W), None where the file leaves one of them open."""
        channels, height, width = self.axes
        return None if channels is None or height is None or width is None else (channels, height, width)

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that the file carries, by name."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    @cached_property
    def spec(self) -> Genotype | None:
        """The spec in a file that robnet_zoo has written. Raises OnnxFileError if it is damaged."""
        if self.proto.producer_name != "robnet_zoo" or "spec" not in self.metadata:
            return None
        try:
            return Genotype.loads(self.metadata["spec"])
        except ValueError as error:
            raise self._error(f"expected a spec in its metadata, got: {error}") from error

    @property
    def parameters(self) -> int:
        """How many floating numbers the graph's initialisers hold."""
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
        return sum(prod(tensor.dims) for tensor in self.proto.graph.initializer if tensor.data_type in kinds)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._logits(images)
        logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log() if self.probabilities else logits
        return logits.to(images)

    def to(self, device: str) -> None:
        """Compute on 'cpu' or 'cuda' from now on. Raises OnnxFileError where ONNX Runtime cannot."""
        self.session = self._open(device)

    def module(self, *, batch: int | None = None) -> nn.Module:
        """The same function in torch, on the CPU, with gradients; in pieces of `batch` images if that is given.

        Raises UnsupportedError. Whether it gives the file's logits is for the caller to check.
        """
        graph = GraphModule(self.proto, output=self.output, logarithm=self.probabilities)
        return _ImageModule(graph, dtype=torch.from_numpy(np.zeros(1, self.dtype)).dtype, nhwc=self.nhwc, batch=batch)

    def _read(self) -> tuple[onnx.ModelProto, str]:
        """The file with its external data, and their sha256."""
        try:
            data = self.path.read_bytes()
            digest = hashlib.sha256(data)
            proto = onnx.ModelProto.FromString(data)
            locations = sorted({ExternalDataInfo(t).location for t in _tensors(proto.graph) if uses_external_data(t)})
            folder = self.path.parent.resolve()
            for location in locations:
                if not (folder / location).resolve().is_relative_to(folder):
                    raise self._error(f"expected its weights in its own folder, got {location!r}")
                digest.update((folder / location).read_bytes())
            load_external_data_for_model(proto, str(folder))
        except OSError as error:
            what = "cannot be read" if error.filename in (None, str(self.path)) else f"{error.filename} cannot be read"
            raise self._error(f"{what}: {error.strerror or error}") from error
        except (DecodeError, ValidationError, ValueError) as error:
            raise self._error(f"expected an ONNX file, got one that cannot be read: {error}") from error
        return proto, digest.hexdigest()

    def _open(self, device: str) -> onnxruntime.InferenceSession:
        if device == "cuda":
            onnxruntime.preload_dlls()  # the CUDA libraries that torch brings
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal alone: errors are raised
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(self.path), options, providers=PROVIDERS[device])
        except RUNTIME_ERRORS as error:
            raise self._error(f"expected a graph that ONNX Runtime can run, got: {error}") from error
        if session.get_providers()[0] != PROVIDERS[device][0][0]:
            raise self._error(f"expected ONNX Runtime to run on {device}, got {', '.join(session.get_providers())}")
        return session

    def _the_input(self) -> tuple[str, type[np.floating[Any]], list[int | None]]:
        """Name, type and axes of the one input; None is an axis of any size."""
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise self._error(f"expected one input, the images, got {names}")
        (value,) = inputs
        if value.type not in FLOATS:
            expected = "images as floating numbers, to which a step of any size can be added"
            raise self._error(f"expected {expected}, got {value.type} as input {value.name!r}")
        if len(value.shape) != 4:
            raise self._error(f"expected images of 4 axes, got input {value.name!r} of shape {value.shape}")
        axes = [axis if isinstance(axis, int) and axis > 0 else None for axis in value.shape]
        return value.name, FLOATS[value.type], axes

    def _try(self) -> tuple[Tensor, str]:
        """Random images, (PROBED, C, H, W) in [0, 1], that the file takes, and the name of the output with logits."""
        generator = torch.Generator().manual_seed(0)
        channels, height, width = self.axes
        for side in SIDES:
            images = torch.rand(PROBED, channels or 3, height or side, width or side, generator=generator)
            count = self.batch or PROBED
            feed = self._feed(images[torch.arange(count) % PROBED])
            try:
                outputs = self.session.run(None, feed)
            except RUNTIME_ERRORS as error:
                if side != SIDES[-1] and not (height and width):
                    continue
                raise self._error(f"expected logits of {count} random images, got: {error}") from error
            break
        names = [value.name for value in self.session.get_outputs()]
        shapes = {name: np.shape(value) for name, value in zip(names, outputs, strict=True)}
        fitting = [
            name
            for name, value in zip(names, outputs, strict=True)
            if np.asarray(value).dtype.kind == "f" and len(shapes[name]) == 2 and shapes[name][0] == count
        ]
        if len(fitting) != 1 or shapes[fitting[0]][1] < 2:
            got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise self._error(f"expected one output of logits, ({count}, K) for {count} images, got {got}")
        return images, fitting[0]

    def _feed(self, images: Tensor) -> dict[str, np.ndarray]:
        images = images.permute(0, 2, 3, 1) if self.nhwc else images
        return {self.input: np.ascontiguousarray(images.cpu().numpy(), dtype=self.dtype)}

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        """What the file gives, (N, K), float32, on the CPU."""

        def run(piece: Tensor) -> Tensor:
            (answers,) = self.session.run([self.output], self._feed(piece))
            return torch.from_numpy(answers).float()

        return run(images) if self.batch is None else _in_pieces(run, images, self.batch)

    def _error(self, text: str) -> OnnxFileError:
        return OnnxFileError(f"{self.path}: {' '.join(text.split())}")


class _ImageModule(nn.Module):
    """A graph with an OnnxFile's conventions: NCHW in, floating logits out."""

    def __init__(self, graph: GraphModule, *, dtype: torch.dtype, nhwc: bool, batch: int | None) -> None:
        super().__init__()
        self.graph, self.dtype, self.nhwc, self.batch = graph, dtype, nhwc, batch

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.dtype)
        x = x.permute(0, 2, 3, 1) if self.nhwc else x
        logits = self.graph(x) if self.batch is None else _in_pieces(self.graph, x, self.batch)
        return logits.to(images.dtype)


def _in_pieces(classifier: Callable[[Tensor], Tensor], images: Tensor, size: int) -> Tensor:
    """The logits of images that are classified exactly `size` at a time, the last of them repeated to fill up."""
    missing = -len(images) % size
    filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
    return torch.cat([classifier(piece) for piece in filled.split(size)])[: len(images)]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
