"""Run an ONNX file as a classifier of images (N, C, H, W) with ONNX Runtime, whatever the file's conventions are."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from torch import Tensor, nn

from robnet_zoo.converters.onnx.counting import count_weights
from robnet_zoo.converters.onnx.file import PROBED, SIDES, channels_are_last, read_file, session_on_cpu
from robnet_zoo.converters.onnx.operators.node import OnnxNode
from robnet_zoo.converters.onnx.operators.table import QUANTISERS
from robnet_zoo.converters.onnx.options import Precision
from robnet_zoo.converters.onnx.to_torch import GraphModule, without_gradient
from robnet_zoo.core.documents import nearest
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import OnnxFileError, UnsupportedError
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
    UnicodeDecodeError,  # of a message that quotes a name from a damaged file
)
FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
PROBE_SECONDS = 120  # the longest that a file may take for them
PIECE = 8  # images at once on a CPU, whose caches do not hold the activations of more
Provider = Literal["cuda", "tensorrt", "openvino", "cpu"]  # in order of preference
PROVIDERS: dict[Provider, tuple[str, dict[str, str]]] = {
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
    "openvino": ("OpenVINOExecutionProvider", {}),
    "cpu": ("CPUExecutionProvider", {}),
}
ON_CUDA = ("cuda", "tensorrt")
DEQUANTISE = "DequantizeLinear"


class OnnxClassifier:
    """A classifier that maps images (N, C, H, W) to logits (N, K), of the images' dtype and on their device.

    The file's input may be float32, float16 or float64, and NCHW or NHWC, depending on which axis has 1, 3 or
    4 entries. Its batch may be free or fixed; images then run in pieces of that size, the last one filled up. One of
    its outputs must be (N, K); of several, `output` names the one to take. If the rows of that output are
    probabilities, they are replaced by their logarithms (`probabilities`), which are logits of the same function; a
    probability that rounds to 0 counts as the smallest normal number.

    Tensors are bound to the session where they lie, so a GPU needs no copy through the host. On a CPU, several pieces
    run side by side, each on a thread of its own.

    Args:
        path: the file.
        provider: what computes. By default the first of CUDA, TensorRT, OpenVINO and the CPU that is available and
            takes the file; a provider given by name must do so.
        threads: of the CPU; by default as many as torch uses.
        batch: run pieces of exactly this size, if the file leaves it open. By default all images run at once, but on a
            CPU at most 8 on each thread.
        output: the name of the output that holds the logits; by default the only one of this shape.

    Attributes:
        sha256: of the file, followed by the files beside it that hold its weights, in the order of their names.
        probe: the random images that the file was tried on, (N, C, H, W) in [0, 1].

    Raises:
        OnnxFileError: the file cannot be read or is not a classifier of images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: Provider | None = None,
        threads: int | None = None,
        batch: int | None = None,
        output: str | None = None,
    ) -> None:
        self.path, self.threads = Path(path), threads
        self.opened = read_file(path)
        self.sha256 = self.opened.sha256
        self.provider, self.session = self._first(provider)
        self._side_session = self._open_side_session()
        self._other_sessions: dict[tuple[bool, bool], onnxruntime.InferenceSession] = {}
        self.input, self.dtype, (fixed, *axes) = self._image_input()
        if batch is not None and (batch < 1 or fixed not in (None, batch)):
            raise self._error(f"expected a batch of {fixed or 'at least 1'}, got {batch}")
        self.nhwc = channels_are_last(axes)
        self.batch = fixed or batch
        self.axes = (axes[2], axes[0], axes[1]) if self.nhwc else (axes[0], axes[1], axes[2])
        self.probe, (self.output, self.output_dtype, self.num_classes) = self._try(output)
        logits = self._logits(self.probe)
        self.probabilities = bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())

    @property
    def proto(self) -> onnx.ModelProto:
        """Return the graph and its weights."""
        return self.opened.proto

    @property
    def device(self) -> torch.device:
        """Return the device whose memory the session reads and writes."""
        return torch.device("cuda" if self.provider in ON_CUDA else "cpu")

    @property
    def input_size(self) -> tuple[int, int, int] | None:
        """Return (C, H, W), or None if the file leaves one of them open."""
        channels, height, width = self.axes
        return None if channels is None or height is None or width is None else (channels, height, width)

    @property
    def metadata(self) -> dict[str, str]:
        """Return the texts in the file's metadata, by name."""
        return self.opened.metadata

    @cached_property
    def spec(self) -> Genotype | None:
        """Return the spec in a file that robnet_zoo has written, else None. Raises OnnxFileError if it is damaged."""
        if not self.opened.ours:
            return None
        try:
            return Genotype.loads(self.metadata["spec"])
        except ValueError as error:
            raise self._error(f"expected a spec in its metadata, got: {error}") from error

    @property
    def precision(self) -> Precision | None:
        """Return the precision that a file of ours names; None for files of others."""
        return self.opened.precision

    @property
    def quantised(self) -> bool:
        """Return whether the graph has operators on quantised numbers."""
        kinds = {f"{node.domain}.{node.op_type}".removeprefix(".") for node in self.proto.graph.node}
        return not QUANTISERS.isdisjoint(kinds)

    @property
    def parameters(self) -> int | None:
        """Return how many numbers the graph's weights have, None if it does not tell; see `count_weights`."""
        return count_weights(self.proto)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits, (N, K), of images (N, C, H, W) in [0, 1]."""
        logits = self._logits(images)
        logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log() if self.probabilities else logits
        return logits.to(images)

    def to(self, provider: Provider) -> None:
        """Compute on another provider from now on. Raises OnnxFileError if ONNX Runtime cannot."""
        self.session, self.provider = self._open(provider), provider
        self._side_session = self._open_side_session()

    def module(self, *, batch: int | None = None, rounds: bool = True) -> ImageModule:
        """Return the same function in torch, on the CPU, with gradients.

        What the file computes in float16, the module computes in float32. Of a file with quantisers, it is the graph
        that ONNX Runtime makes of it, whose integers are those that it runs with. The caller must check that it gives
        the file's logits.

        Args:
            batch: run pieces of exactly this size.
            rounds: whether quantisers round; see `GraphModule`.

        Raises: UnsupportedError if torch cannot express it.
        """
        try:
            graph = self._graph(self.fused, rounds=rounds)
        except UnsupportedError:
            if self.fused is self.proto:
                raise
            graph = self._graph(self.proto, rounds=rounds)
        dtype = torch.float32 if self.dtype is np.float16 else _torch_dtype(self.dtype)
        return ImageModule(graph, dtype=dtype, nhwc=self.nhwc, batch=batch)

    def _graph(self, proto: onnx.ModelProto, *, rounds: bool) -> GraphModule:
        return GraphModule(proto, output=self.output, logarithm=self.probabilities, widened=True, rounds=rounds)

    @cached_property
    def fused(self) -> onnx.ModelProto:
        """Return the graph as ONNX Runtime optimises it for any processor if it has quantisers, or else as it is.

        It is also as it is if ONNX Runtime cannot write it.
        """
        if DEQUANTISE not in {node.op_type for node in self.proto.graph.node}:
            return self.proto
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fused.onnx"
            options = self._options()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(path)
            try:
                session_on_cpu(str(self.path), options)
                return onnx.load(path)
            except (*RUNTIME_ERRORS, OSError, DecodeError):
                return self.proto

    def run_otherwise(self, images: Tensor, *, optimised: bool = True, exact: bool = False) -> Tensor:
        """Return the logits, (N, K), that ONNX Runtime gives on the CPU if it is told to run the file in another way.

        Args:
            images: (N, C, H, W) in [0, 1].
            optimised: whether the graph is optimised first.
            exact: whether sums of products of bytes are kept from saturating, as they may on processors without VNNI.

        Raises: OnnxFileError if it cannot run the file so.
        """
        size = self.batch or PIECE
        pieces = []
        try:
            if (optimised, exact) not in self._other_sessions:
                options = self._options()
                if not optimised:
                    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
                self._other_sessions[optimised, exact] = session_on_cpu(str(self.path), options)
            session = self._other_sessions[optimised, exact]
            for piece in filled(images.cpu(), size).split(size):
                x = piece.permute(0, 2, 3, 1) if self.nhwc else piece
                pieces += session.run([self.output], {self.input: np.ascontiguousarray(x.numpy(), self.dtype)})
        except RUNTIME_ERRORS as error:
            raise self._error(f"expected a graph that ONNX Runtime can run in another way, got: {error}") from error
        logits = torch.from_numpy(np.concatenate(pieces)).float()[: len(images)]
        logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log() if self.probabilities else logits
        return logits.to(images)

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: errors are raised
        options.intra_op_num_threads = self._threads
        return options

    @property
    def _threads(self) -> int:
        """Return the number of threads that pieces are shared out to."""
        return self.threads or torch.get_num_threads()

    def _first(self, chosen: Provider | None) -> tuple[Provider, onnxruntime.InferenceSession]:
        """Return the chosen provider, or the first that takes the file, and its session."""
        if chosen is not None:
            return chosen, self._open(chosen)
        for provider in get_args(Provider):
            if provider != "cpu" and _is_available(provider):
                with suppress(OnnxFileError):
                    return provider, self._open(provider)
        return "cpu", self._open("cpu")

    def _open(self, provider: Provider, *, threads: int | None = None) -> onnxruntime.InferenceSession:
        """Open a session of the file on a provider."""
        if provider not in PROVIDERS:
            raise self._error(f"expected a provider of {', '.join(PROVIDERS)}{nearest(provider, PROVIDERS)}")
        name, settings = PROVIDERS[provider]
        if not _is_available(provider):
            available = ", ".join(key for key in PROVIDERS if _is_available(key))
            raise self._error(f"expected ONNX Runtime to run on {provider}, got one that has only {available}")
        if provider in ON_CUDA:
            onnxruntime.preload_dlls()  # the CUDA libraries that torch brings
        options = self._options()
        options.intra_op_num_threads = threads or self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave others the cores
        providers = [(name, settings), PROVIDERS["cpu"]]
        try:
            if provider == "cpu":
                session = session_on_cpu(str(self.path), options)
            else:
                session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        except TypeError as error:  # it takes the names of files as UTF-8
            raise self._error("expected a path in UTF-8, which ONNX Runtime needs, got other bytes") from error
        except RUNTIME_ERRORS as error:
            raise self._error(f"expected a graph that ONNX Runtime can run, got: {error}") from error
        if session.get_providers()[0] != name:
            raise self._error(f"expected ONNX Runtime to run on {provider}, got {', '.join(session.get_providers())}")
        return session

    def _open_side_session(self) -> onnxruntime.InferenceSession | None:
        """Open the single-threaded session for pieces that run side by side; now, since the file may be deleted."""
        return self._open("cpu", threads=1) if self.provider == "cpu" and self._threads > 1 else None

    def _image_input(self) -> tuple[str, type[np.floating[Any]], list[int | None]]:
        """Return the name, type and axes of the only input; None is an axis of any size."""
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise self._error(f"expected a single input, the images, got {names}")
        (value,) = inputs
        if value.type not in FLOATS:
            expected = "images as floating-point numbers, to which a step of any size can be added"
            raise self._error(f"expected {expected}, got {value.type} as input {value.name!r}")
        if len(value.shape) != 4:
            raise self._error(f"expected images of 4 axes, got input {value.name!r} of shape {value.shape}")
        axes = [axis if isinstance(axis, int) and axis > 0 else None for axis in value.shape]
        return value.name, FLOATS[value.type], axes

    def _try(self, chosen: str | None) -> tuple[Tensor, tuple[str, type[np.floating[Any]], int]]:
        """Return random images that the file takes, (PROBED, C, H, W) in [0, 1], and its logits' name, type and K."""
        generator = torch.Generator().manual_seed(0)
        channels, height, width = self.axes
        for side in SIDES:
            images = torch.rand(PROBED, channels or 3, height or side, width or side, generator=generator)
            count = self.batch or PROBED
            feed = {self.input: self._as_input(images[torch.arange(count) % PROBED]).numpy()}
            try:
                outputs = self._within(PROBE_SECONDS, feed)
            except RUNTIME_ERRORS as error:
                if side != SIDES[-1] and not (height and width):
                    continue
                raise self._error(f"expected logits of {count} random images, got: {error}") from error
            break
        names = [value.name for value in self.session.get_outputs()]
        arrays = dict(zip(names, map(np.asarray, outputs), strict=True))
        if chosen is not None and chosen not in arrays:
            raise self._error(f"expected the name of an output, got {chosen!r}{nearest(chosen, names)}")
        fitting = [
            name
            for name, value in arrays.items()
            if value.dtype in FLOATS.values() and value.ndim == 2 and len(value) == count and chosen in (None, name)
        ]
        if len(fitting) != 1 or arrays[fitting[0]].shape[1] < 2:
            got = ", ".join(f"{name} {value.shape}" for name, value in arrays.items() if chosen in (None, name))
            remedy = f"; {self.path.name}:{fitting[0]} (output= in Python) takes the first" if fitting[1:] else ""
            raise self._error(
                f"expected a single output of logits, ({count}, K) for {counted(count, 'image')}, got {got}{remedy}"
            )
        logits = arrays[fitting[0]]
        return images, (fitting[0], logits.dtype.type, logits.shape[1])

    def _within(self, seconds: float, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return all outputs; a run that takes longer is stopped."""
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

    def _as_input(self, images: Tensor) -> Tensor:
        """Return images in the form that the session takes."""
        x = images.detach().permute(0, 2, 3, 1) if self.nhwc else images.detach()
        return x.to(self.device, _torch_dtype(self.dtype)).contiguous()

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        """Return what the file gives, (N, K), float32, on the session's device."""
        if self.batch is not None and len(images):
            return self._in_turn(filled(images, self.batch).split(self.batch))[: len(images)]
        size = len(images)
        if self.device.type == "cpu":
            size = min(PIECE, size if self._side_session is None else -(-size // self._threads))
        if len(images) > size:
            return self._in_turn(images.split(size))
        return self._bound(images, self.session)

    def _in_turn(self, pieces: Sequence[Tensor]) -> Tensor:
        """Return the logits of several pieces, which run side by side on a CPU, each on a core of its own."""
        workers = min(self._threads, len(pieces))
        if self._side_session is None or workers == 1:
            return torch.cat([self._bound(piece, self.session) for piece in pieces])
        with ThreadPoolExecutor(workers) as pool:
            return torch.cat(list(pool.map(self._bound, pieces, repeat(self._side_session))))

    @torch.no_grad()
    def _bound(self, images: Tensor, session: onnxruntime.InferenceSession) -> Tensor:
        """Return a session's logits of images, with both bound on its own device."""
        x = self._as_input(images)
        dtype = _torch_dtype(self.output_dtype)
        logits = torch.empty(len(images), self.num_classes, dtype=dtype, device=self.device)
        if not len(images):
            return logits.float()
        binding = session.io_binding()
        device = (self.device.type, x.device.index or 0)
        binding.bind_input(self.input, *device, self.dtype, tuple(x.shape), x.data_ptr())
        binding.bind_output(self.output, *device, self.output_dtype, tuple(logits.shape), logits.data_ptr())
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # wait for x: the session has a stream of its own
        try:
            session.run_with_iobinding(binding)
        except (*RUNTIME_ERRORS, RuntimeError) as error:  # a bound run raises the latter
            if "Failed to allocate memory" in str(error):
                raise torch.OutOfMemoryError(str(self._error(str(error)))) from error
            raise self._error(f"expected logits of images of {tuple(images.shape)}, got: {error}") from error
        return logits.float()

    def _error(self, text: str) -> OnnxFileError:
        return OnnxFileError(self.path, text)


class ImageModule(nn.Module):
    """A graph with the conventions of an OnnxClassifier: NCHW in, floating-point logits out."""

    def __init__(self, graph: GraphModule, *, dtype: torch.dtype, nhwc: bool, batch: int | None) -> None:
        super().__init__()
        self.graph, self.dtype, self.nhwc, self.batch = graph, dtype, nhwc, batch
        self.eval()

    def cutting(self, images: Tensor) -> list[OnnxNode]:
        """Return the operators that cut the gradients by images (N, C, H, W); see `without_gradient`."""
        return without_gradient(self.graph, self._as_input(images).detach().requires_grad_())

    def _as_input(self, images: Tensor) -> Tensor:
        x = images.to(self.dtype)
        return x.permute(0, 2, 3, 1) if self.nhwc else x

    def forward(self, images: Tensor) -> Tensor:
        x = self._as_input(images)
        logits = self.graph(x) if self.batch is None else in_pieces(self.graph, x, self.batch)
        return logits.to(images.dtype)


def in_pieces(classifier: Callable[[Tensor], Tensor], images: Tensor, size: int) -> Tensor:
    """Return the logits, (N, K), of images that are classified exactly `size` at a time.

    Args:
        classifier: takes `size` images, (size, C, H, W), and gives their logits.
        images: (N, C, H, W).
        size: of a piece; the last image is repeated to fill the last piece.
    """
    return torch.cat([classifier(piece) for piece in filled(images, size).split(size)])[: len(images)]


def filled(images: Tensor, size: int) -> Tensor:
    """Return images with the last one repeated until their number is a multiple of `size`."""
    return torch.cat([images, images[-1:].expand(-len(images) % size, *images.shape[1:])])


def _is_available(provider: Provider) -> bool:
    """Return whether ONNX Runtime was built with a provider and the machine has the hardware."""
    built = PROVIDERS[provider][0] in onnxruntime.get_available_providers()
    return built and (provider not in ON_CUDA or torch.cuda.is_available())


def _torch_dtype(dtype: type[np.floating[Any]]) -> torch.dtype:
    return torch.from_numpy(np.zeros(1, dtype)).dtype
