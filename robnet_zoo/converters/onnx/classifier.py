"""An ONNX file as a classifier of images (N, C, H, W), run by ONNX Runtime, whatever its own conventions are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import repeat
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from torch import Tensor, nn

from robnet_zoo.converters.onnx.file import read
from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.core.documents import nearest
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.genotype.genotype import Genotype

RUNTIME_ERRORS = (
    runtime.EPFail,
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
PROBE_SECONDS = 120  # that a file may take for them
PIECE = 8  # images at once on a CPU, whose caches do not hold the activations of more
Provider = Literal["cuda", "tensorrt", "openvino", "cpu"]  # in the order of preference
PROVIDERS: dict[Provider, tuple[str, dict[str, str]]] = {
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
    "openvino": ("OpenVINOExecutionProvider", {}),
    "cpu": ("CPUExecutionProvider", {}),
}
ON_CUDA = ("cuda", "tensorrt")


class OnnxClassifier:
    """A classifier: images (N, C, H, W) -> logits (N, K), of the images' dtype and on their device.

    The file's input may be float32, float16 or float64, NCHW or NHWC (told by which axis has 1, 3 or 4 entries), its
    batch free or fixed: then it runs in pieces of that size, the last one filled up. Of several outputs exactly one
    must be (N, K). An output whose rows are probabilities is replaced by its logarithms (`probabilities`), which are
    logits of the same function; a probability that rounds to 0 counts as the smallest normal number.

    provider: what computes, by default the first of CUDA, TensorRT, OpenVINO and the CPU that is there and takes the
    file; one that is asked for by name must. Tensors are bound to the session where they lie, on a GPU without a copy
    through the host. threads: of the CPU, by default as many as torch uses. batch: run in pieces of exactly this size,
    where the file leaves it open; by default all images at once, but on a CPU as many pieces as there are threads, or
    more, of at most 8 images. There the pieces run side by side, a thread each.

    sha256: of the file and, one after the other in the order of their names, of the files beside it that hold its
    weights, if it has such. probe: the random images that the file was tried on. Raises OnnxFileError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: Provider | None = None,
        threads: int | None = None,
        batch: int | None = None,
    ) -> None:
        self.path, self.threads = Path(path), threads
        self.opened = read(path)
        self.sha256 = self.opened.sha256
        self.provider, self.session = self._first(provider)
        self._apart = self._single()
        self.input, self.dtype, (fixed, *axes) = self._the_input()
        if batch is not None and (batch < 1 or fixed not in (None, batch)):
            raise self._error(f"expected a batch of {fixed or 'at least 1'}, got {batch}")
        self.nhwc = axes[2] in CHANNELS and axes[0] not in CHANNELS
        self.batch = fixed or batch
        self.axes = (axes[2], axes[0], axes[1]) if self.nhwc else (axes[0], axes[1], axes[2])
        self.probe, (self.output, self.output_dtype, self.num_classes) = self._try()
        answers = self._logits(self.probe)
        self.probabilities = bool((answers >= 0).all() and ((answers.sum(1) - 1).abs() < 1e-3).all())

    @property
    def proto(self) -> onnx.ModelProto:
        """The graph, with its weights."""
        return self.opened.proto

    @property
    def device(self) -> torch.device:
        """Where the session reads and writes."""
        return torch.device("cuda" if self.provider in ON_CUDA else "cpu")

    @property
    def input_size(self) -> tuple[int, int, int] | None:
        """(C, H, W), None where the file leaves one of them open."""
        channels, height, width = self.axes
        return None if channels is None or height is None or width is None else (channels, height, width)

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that the file carries, by name."""
        return self.opened.metadata

    @cached_property
    def spec(self) -> Genotype | None:
        """The spec in a file that robnet_zoo has written. Raises OnnxFileError if it is damaged."""
        if not self.opened.ours:
            return None
        try:
            return Genotype.loads(self.metadata["spec"])
        except ValueError as error:
            raise self._error(f"expected a spec in its metadata, got: {error}") from error

    @property
    def precision(self) -> Precision | None:
        """As a file of ours says; None for files of others."""
        return self.opened.precision

    @property
    def parameters(self) -> int:
        """How many floating numbers the graph's initialisers hold."""
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
        return sum(prod(tensor.dims) for tensor in self.proto.graph.initializer if tensor.data_type in kinds)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._logits(images)
        logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log() if self.probabilities else logits
        return logits.to(images)

    def to(self, provider: Provider) -> None:
        """Compute elsewhere from now on. Raises OnnxFileError where ONNX Runtime cannot."""
        self.session, self.provider = self._open(provider), provider
        self._apart = self._single()

    def module(self, *, batch: int | None = None) -> nn.Module:
        """The same function in torch, on the CPU, with gradients; in pieces of `batch` images if that is given.

        Raises UnsupportedError. Whether it gives the file's logits is for the caller to check.
        """
        graph = GraphModule(self.proto, output=self.output, logarithm=self.probabilities)
        return _ImageModule(graph, dtype=_torch_dtype(self.dtype), nhwc=self.nhwc, batch=batch)

    @property
    def _threads(self) -> int:
        return self.threads or torch.get_num_threads()

    def _first(self, wanted: Provider | None) -> tuple[Provider, onnxruntime.InferenceSession]:
        """The provider asked for, or the first that takes the file, and its session."""
        if wanted is not None:
            return wanted, self._open(wanted)
        for provider in get_args(Provider):
            if provider != "cpu" and _is_there(provider):
                with suppress(OnnxFileError):
                    return provider, self._open(provider)
        return "cpu", self._open("cpu")

    def _open(self, provider: Provider, *, threads: int | None = None) -> onnxruntime.InferenceSession:
        if provider not in PROVIDERS:
            raise self._error(f"expected a provider of {', '.join(PROVIDERS)}{nearest(provider, PROVIDERS)}")
        name, settings = PROVIDERS[provider]
        if not _is_there(provider):
            there = ", ".join(each for each in PROVIDERS if _is_there(each))
            raise self._error(f"expected ONNX Runtime to run on {provider}, got one that has {there} alone")
        if provider in ON_CUDA:
            onnxruntime.preload_dlls()  # the CUDA libraries that torch brings
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal alone: errors are raised
        options.intra_op_num_threads = threads or self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave others the cores
        providers = list(dict.fromkeys([name, PROVIDERS["cpu"][0]]))
        try:
            session = onnxruntime.InferenceSession(
                str(self.path), options, providers=[(each, settings if each == name else {}) for each in providers]
            )
        except RUNTIME_ERRORS as error:
            raise self._error(f"expected a graph that ONNX Runtime can run, got: {error}") from error
        if session.get_providers()[0] != name:
            raise self._error(f"expected ONNX Runtime to run on {provider}, got {', '.join(session.get_providers())}")
        return session

    def _single(self) -> onnxruntime.InferenceSession | None:
        """A session of one thread for pieces that run side by side; opened at once, as the file may not stay."""
        return self._open("cpu", threads=1) if self.provider == "cpu" and self._threads > 1 else None

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

    def _try(self) -> tuple[Tensor, tuple[str, type[np.floating[Any]], int]]:
        """Random images, (PROBED, C, H, W) in [0, 1], that the file takes; the logits' name and type, and how many."""
        generator = torch.Generator().manual_seed(0)
        channels, height, width = self.axes
        for side in SIDES:
            images = torch.rand(PROBED, channels or 3, height or side, width or side, generator=generator)
            count = self.batch or PROBED
            feed = {self.input: self._fed(images[torch.arange(count) % PROBED]).numpy()}
            try:
                outputs = self._within(PROBE_SECONDS, feed)
            except RUNTIME_ERRORS as error:
                if side != SIDES[-1] and not (height and width):
                    continue
                raise self._error(f"expected logits of {count} random images, got: {error}") from error
            break
        names = [value.name for value in self.session.get_outputs()]
        found = dict(zip(names, map(np.asarray, outputs), strict=True))
        fitting = [
            name
            for name, value in found.items()
            if value.dtype in FLOATS.values() and value.ndim == 2 and len(value) == count
        ]
        if len(fitting) != 1 or found[fitting[0]].shape[1] < 2:
            got = ", ".join(f"{name} {value.shape}" for name, value in found.items())
            raise self._error(f"expected one output of logits, ({count}, K) for {count} images, got {got}")
        logits = found[fitting[0]]
        return images, (fitting[0], logits.dtype.type, logits.shape[1])

    def _within(self, seconds: float, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs; a run that takes longer is ended."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        alarm = threading.Timer(seconds, lambda: setattr(options, "terminate", True))
        alarm.daemon = True
        alarm.start()
        try:
            outputs: list[np.ndarray] = self.session.run(None, feed, options)
        finally:
            alarm.cancel()
        return outputs

    def _fed(self, images: Tensor) -> Tensor:
        """Images as the session takes them."""
        x = images.detach().permute(0, 2, 3, 1) if self.nhwc else images.detach()
        return x.to(self.device, _torch_dtype(self.dtype)).contiguous()

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        """What the file gives, (N, K), float32, where the session is."""
        if self.batch is not None and len(images):
            return self._in_turn(filled(images, self.batch).split(self.batch))[: len(images)]
        size = len(images)
        if self.device.type == "cpu":
            size = min(PIECE, size if self._apart is None else -(-size // self._threads))
        if len(images) > size:
            return self._in_turn(images.split(size))
        return self._bound(images, self.session)

    def _in_turn(self, pieces: Sequence[Tensor]) -> Tensor:
        """The logits of several pieces; on a CPU as many at once as there are threads: each has its core for itself."""
        workers = min(self._threads, len(pieces))
        if self._apart is None or workers == 1:
            return torch.cat([self._bound(piece, self.session) for piece in pieces])
        with ThreadPoolExecutor(workers) as pool:
            return torch.cat(list(pool.map(self._bound, pieces, repeat(self._apart))))

    @torch.no_grad()
    def _bound(self, images: Tensor, session: onnxruntime.InferenceSession) -> Tensor:
        """A run of a session on tensors that lie where it is."""
        x = self._fed(images)
        dtype = _torch_dtype(self.output_dtype)
        logits = torch.empty(len(images), self.num_classes, dtype=dtype, device=self.device)
        if not len(images):
            return logits.float()
        binding = session.io_binding()
        place = (self.device.type, x.device.index or 0)
        binding.bind_input(self.input, *place, self.dtype, tuple(x.shape), x.data_ptr())
        binding.bind_output(self.output, *place, self.output_dtype, tuple(logits.shape), logits.data_ptr())
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # what made x; the session has a stream of its own
        try:
            session.run_with_iobinding(binding)
        except (*RUNTIME_ERRORS, RuntimeError) as error:  # the latter is what a bound run raises
            if "Failed to allocate memory" in str(error):
                raise torch.OutOfMemoryError(str(self._error(str(error)))) from error
            raise self._error(f"expected logits of images of {tuple(images.shape)}, got: {error}") from error
        return logits.float()

    def _error(self, text: str) -> OnnxFileError:
        return OnnxFileError(self.path, text)


class _ImageModule(nn.Module):
    """A graph with an OnnxClassifier's conventions: NCHW in, floating logits out."""

    def __init__(self, graph: GraphModule, *, dtype: torch.dtype, nhwc: bool, batch: int | None) -> None:
        super().__init__()
        self.graph, self.dtype, self.nhwc, self.batch = graph, dtype, nhwc, batch
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.dtype)
        x = x.permute(0, 2, 3, 1) if self.nhwc else x
        logits = self.graph(x) if self.batch is None else in_pieces(self.graph, x, self.batch)
        return logits.to(images.dtype)


def in_pieces(classifier: Callable[[Tensor], Tensor], images: Tensor, size: int) -> Tensor:
    """The logits of images that are classified exactly `size` at a time, the last of them repeated to fill up."""
    return torch.cat([classifier(piece) for piece in filled(images, size).split(size)])[: len(images)]


def filled(images: Tensor, size: int) -> Tensor:
    """Images, and the last of them again, as often as it takes to a multiple of `size`."""
    return torch.cat([images, images[-1:].expand(-len(images) % size, *images.shape[1:])])


def _is_there(provider: Provider) -> bool:
    """Whether ONNX Runtime was built with a provider, and the machine has what it runs on."""
    built = PROVIDERS[provider][0] in onnxruntime.get_available_providers()
    return built and (provider not in ON_CUDA or torch.cuda.is_available())


def _torch_dtype(dtype: type[np.floating[Any]]) -> torch.dtype:
    return torch.from_numpy(np.zeros(1, dtype)).dtype
