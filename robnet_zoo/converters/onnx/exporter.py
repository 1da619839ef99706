"""Write models as ONNX files, verify the files and report on them.

A file has one input, `images`, (N, C, H, W) in [0, 1], and one output, `logits`, (N, K).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from robnet_zoo import data
from robnet_zoo.converters.onnx.graph import DTYPES, Graph
from robnet_zoo.converters.onnx.options import ExportOptions, Precision
from robnet_zoo.converters.onnx.quantize import quantize
from robnet_zoo.converters.onnx.verify import BATCHES, Latency, Parity, compare, latencies, verify
from robnet_zoo.core.documents import Document, Tuple, fspath
from robnet_zoo.core.files import write_atomically
from robnet_zoo.core.waiting import SignOfLife
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.errors import DataError, ExportError, ModelError, VerificationError
from robnet_zoo.genotype.genotype import STEM_STRIDES
from robnet_zoo.nn.changes import check_unchanged
from robnet_zoo.nn.network import Network
from robnet_zoo.version import __version__
from robnet_zoo.zoo.registry import class_names
from robnet_zoo.zoo.weights import state_sha256

IR_VERSION = 10  # at least; later opsets need later versions
COMPARED = 256  # real images on which the predictions of fp16 and int8 are compared with torch's


class ExportReport(Document):
    """What an export wrote, and how it compares with the model.

    batch: None if it is free. bytes, file_sha256: of the file. spec_hash, state_sha256: of the model. calibration:
    sha256 of the images that int8 was calibrated on. comparisons: empty if the verification was left out. rounding:
    the distance of torch's own float32 logits from its float64 ones, measured only if the file's logits were more
    than 1e-5 from torch's. latencies: on the CPU.
    """

    precision: Precision
    opset: int
    batch: int | None = None
    input_size: Tuple[int]
    bytes: int
    file_sha256: str
    spec_hash: str
    state_sha256: str
    calibration: str | None = None
    comparisons: Tuple[Parity] = ()
    rounding: float | None = None
    latencies: Tuple[Latency] = ()

    @property
    def difference(self) -> float:
        """Return the largest difference of a logit from torch's; NaN if nothing was compared."""
        return max((comparison.difference for comparison in self.comparisons), default=float("nan"))

    @property
    def agreement(self) -> float:
        """Return the share of the real images that get torch's class; NaN if nothing was compared."""
        last = [comparison.agreement for comparison in self.comparisons if comparison.images == "real"]
        return last[-1] if last else float("nan")

    def __str__(self) -> str:
        times = ", ".join(f"{latency.milliseconds:.1f} ms at batch {latency.batch}" for latency in self.latencies)
        verdict = "not compared with torch"
        if self.comparisons:
            verdict = f"logits within {self.difference:.1e} of torch's, the same class on {self.agreement:.1%}"
        return f"{self.precision}, {self.bytes / 1e6:.2f} MB; {verdict}" + (f"; {times}" if times else "")


@dataclass(frozen=True)
class _Samples:
    """The images that a file is compared on and calibrated on, each (N, C, H, W) in [0, 1]."""

    real: Tensor
    calibration: Tensor
    calibration_sha256: str | None


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    images: Images | None = None,
    progress: bool = False,
) -> ExportReport:
    """Write a model as an ONNX file, verify the file, and return a report.

    The graph is emitted from the blueprint. The metadata hold the spec, its hash, the sha256 of the weights, the range
    of the input, the precision, the version and, where they are known, the names of the classes as a JSON list. ONNX's
    checker and full shape inference must pass. The verification runs the file in ONNX Runtime on random and on real
    images, at batches 1, 7 and 64 if the batch is free. In fp32, logits must be within 1e-5 of torch's, relative to the
    largest logit or 1. If torch's own float32 logits are further than that from its float64 ones, a few times that
    distance is allowed. In fp16 and int8, logits must be finite; the report says how far they are from torch's.

    Args:
        model: compiled from a spec and not changed since, except its weights. Nor is it changed here.
        path: the file to write.
        options: how the file is written, by default in fp32.
        images: real images of the model's size, by default scikit-learn's digits, scaled. int8 needs them: the first
            `calibration` give the ranges of activations, and the comparison is on the rest, if there are more.
        progress: show on stderr what is being done.

    Raises:
        ExportError: the model cannot be exported, or the file does not compute its logits. Nothing is written.
        DataError: the images do not fit.
    """
    options = ExportOptions() if options is None else options
    if Path(fspath(path, "the path of a file to write", error=ExportError)).is_dir():
        raise ExportError(f"{path}: expected the path of a file to write, got a folder")
    network = _copied(model, path)
    size = _input_size(network, options, path)
    samples = _samples(options, images, size, path)
    with SignOfLife("writing the graph", shown=progress) as sign:
        proto = to_onnx(network, options)
        if options.precision == "int8":
            sign.says(f"calibrating int8 on {counted(len(samples.calibration), 'image')}")
            proto = _with_metadata(quantize(proto, samples.calibration, batch=options.batch), network, options)
        sign.says("checking the graph")
        _check(proto, path)
        serialized = proto.SerializeToString()
        comparisons: tuple[Parity, ...] = ()
        rounding: float | None = None
        timed: tuple[Latency, ...] = ()
        if options.prove:
            sign.says(f"comparing the file with torch on {counted(len(samples.real), 'image')}")
            try:
                if options.precision == "fp32":
                    comparisons, rounding = verify(network, serialized, samples.real, batch=options.batch)
                else:
                    comparisons = compare(network, serialized, samples.real, batch=options.batch)
            except VerificationError as error:
                raise ExportError(f"{path}: {error}") from error
            sign.says("timing the file")
            timed = latencies(serialized, size, batch=options.batch)
        write_atomically(path, serialized)
    return ExportReport(
        precision=options.precision,
        opset=options.opset,
        batch=options.batch,
        input_size=size,
        bytes=len(serialized),
        file_sha256=hashlib.sha256(serialized).hexdigest(),
        spec_hash=network.spec.hash,
        state_sha256=state_sha256(network.state_dict()),
        calibration=samples.calibration_sha256,
        comparisons=comparisons,
        rounding=rounding,
        latencies=timed,
    )


def to_onnx(network: Network, options: ExportOptions | None = None) -> onnx.ModelProto:
    """Return a model in eval mode as an ONNX model in fp32 or fp16; for int8, the one that is quantised next.

    Raises ModelError for a model that is not as its spec builds it.
    """
    check_unchanged(network, head=True)
    options = ExportOptions() if options is None else options
    graph = Graph(network, dtype=DTYPES[options.precision])
    height, width = options.input_size or network.spec.network.input_size[1:]
    proto = graph.proto(
        name=network.spec.name,
        images=[options.batch or "batch", network.in_chans, height, width],
        classes=network.num_classes or network.num_features,
        opset=options.opset,
    )
    return _with_metadata(proto, network, options)


def _with_metadata(proto: onnx.ModelProto, network: Network, options: ExportOptions) -> onnx.ModelProto:
    """Write the metadata into a model, and return it."""
    proto.producer_name, proto.producer_version = "robnet_zoo", __version__
    proto.ir_version = max(IR_VERSION, helper.find_min_ir_version_for(list(proto.opset_import)))
    helper.set_model_props(
        proto,
        {
            "spec": json.dumps(network.spec.model_dump(mode="json", exclude_none=True)),
            "spec_hash": network.spec.hash,
            "state_sha256": state_sha256(network.state_dict()),
            "input_range": "[0, 1]",
            "precision": options.precision,
            "version": __version__,
            **({"classes": json.dumps(names)} if (names := class_names(network)) else {}),
        },
    )
    return proto


def _copied(model: nn.Module, path: str | os.PathLike[str]) -> Network:
    """Return a copy of the model in float32 and eval mode, on the CPU. Raises ExportError if it cannot be exported."""
    if not isinstance(model, Network):
        raise ExportError(f"{path}: expected a model compiled from a spec, got {type(model).__name__}")
    try:
        check_unchanged(model, head=True)
    except ModelError as error:
        raise ExportError(f"{path}: {error}") from error
    pool = model.global_pool.pool_type
    if pool != "avg":
        raise ExportError(f"{path}: expected a model whose global pooling averages, got {pool or 'none'!r}")
    return copy.deepcopy(model).float().cpu().eval().requires_grad_(False)


def _input_size(network: Network, options: ExportOptions, path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Return the (C, H, W) of an image."""
    config = network.spec.network
    height, width = options.input_size or config.input_size[1:]
    stride = STEM_STRIDES[config.stem] * 2 ** len(config.reductions)
    if height % stride or width % stride:
        raise ExportError(f"{path}: expected a height and width that {stride} divides, got {height} and {width}")
    return network.in_chans, height, width


def _samples(
    options: ExportOptions, images: Images | None, size: tuple[int, int, int], path: str | os.PathLike[str]
) -> _Samples:
    """Choose the images that the file is compared on and, for int8, calibrated on."""
    if images is None and options.precision == "int8":
        raise ExportError(f"{path}: expected real images, on which int8 finds the ranges of activations, got none")
    if images is None:
        return _Samples(_digits(size), torch.empty(0), None)
    if tuple(images.pixels.shape[1:]) != size:
        got = tuple(images.pixels.shape[1:])
        raise DataError(f"{images.name}: expected images of (channels, height, width) {size}, got {got}")
    compared = max(BATCHES) if options.precision == "fp32" else COMPARED
    if options.precision != "int8":
        return _Samples(images[:compared].batch(slice(None))[0], torch.empty(0), None)
    first, rest = images[: options.calibration], images[options.calibration :]
    if len(first) < (options.batch or 1):
        raise ExportError(
            f"{path}: expected at least {counted(options.batch or 1, 'image')} to calibrate on, got {len(first)}"
        )
    real = rest if len(rest) else first
    return _Samples(real[:compared].batch(slice(None))[0], first.batch(slice(None))[0], first.sha256)


def _digits(size: tuple[int, int, int]) -> Tensor:
    """Return real images for a model of any size: scans of handwritten digits, (N, C, H, W)."""
    scans, _ = data.digits()[1][: max(BATCHES)].batch(slice(None))
    scaled = nn.functional.interpolate(scans[:, :1], size=size[1:], mode="bilinear", align_corners=False)
    return scaled.expand(-1, size[0], -1, -1).contiguous()


def _check(proto: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Raise an ExportError unless ONNX's checker and shape inference accept the model and its numbers are finite."""
    try:
        onnx.checker.check_model(proto, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path}: expected a graph that ONNX's checker accepts, got: {error}") from error
    shaped = {value.name: value.type.tensor_type for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in proto.graph.node:
        for name in node.output:
            if name not in shaped or not all(d.dim_value or d.dim_param for d in shaped[name].shape.dim):
                raise ExportError(f"{path}: expected every shape to be inferred, got none of {name}")
    for tensor in proto.graph.initializer:
        if not np.isfinite(numpy_helper.to_array(tensor).astype(np.float64)).all():
            raise ExportError(f"{path}: expected weights that its precision can hold, got others in {tensor.name}")
