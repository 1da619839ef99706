"""Models as ONNX files: `export` writes and proves them, `load` makes torch models of them, `OnnxClassifier` runs them.

`images`, (N, C, H, W) in [0, 1], in; `logits`, (N, K), out. The parts: `onnx_graph` emits the graph,
`onnx_quantization` brings it to eight bits, `onnx_proof` compares it with torch; `onnx_open`, `onnx_load`,
`onnx_reader` and `onnx_classifier` read files.
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
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.graph import Graph
from robnet_zoo.converters.onnx.load import DTYPES, load
from robnet_zoo.converters.onnx.options import ExportOptions, Precision
from robnet_zoo.converters.onnx.quantize import quantised
from robnet_zoo.converters.onnx.verify import BATCHES, Comparison, Latency, compare, latencies, prove
from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.files import write_atomically
from robnet_zoo.data import Images
from robnet_zoo.errors import ExportError, OnnxFileError, ProofError
from robnet_zoo.genotype.genotype import STEM_STRIDES
from robnet_zoo.nn.network import Network
from robnet_zoo.version import __version__
from robnet_zoo.zoo.weights import state_sha256

__all__ = ["ExportError", "ExportOptions", "ExportReport", "OnnxClassifier", "OnnxFileError", "export", "load"]

IR_VERSION = 10  # at least; later opsets ask for later ones
COMPARED = 256  # real images on which the predictions of fp16 and int8 are compared with torch's


class ExportReport(Document):
    """What an export gave.

    batch: None where it is free. bytes, file_sha256: of the file. spec_hash, state_sha256: of the model. calibration:
    sha256 of the images that int8 was calibrated on. comparisons: none where the proof was left out. rounding: the
    distance of torch's own float32 logits from its float64 ones, where that was asked for, because the file's were
    more than 1e-5 from torch's. latencies: on the CPU.
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
    comparisons: Tuple[Comparison] = ()
    rounding: float | None = None
    latencies: Tuple[Latency] = ()

    @property
    def difference(self) -> float:
        """The largest difference of a logit from torch's; NaN where nothing was compared."""
        return max((comparison.difference for comparison in self.comparisons), default=float("nan"))

    @property
    def agreement(self) -> float:
        """The share of the real images that get torch's class; NaN where nothing was compared."""
        last = [comparison.agreement for comparison in self.comparisons if comparison.images == "real"]
        return last[-1] if last else float("nan")

    def __str__(self) -> str:
        times = ", ".join(f"{one.milliseconds:.1f} ms at batch {one.batch}" for one in self.latencies)
        proof = "not compared with torch"
        if self.comparisons:
            proof = f"logits within {self.difference:.1e} of torch's, the same class on {self.agreement:.1%}"
        return f"{self.precision}, {self.bytes / 1e6:.2f} MB; {proof}" + (f"; {times}" if times else "")


@dataclass(frozen=True)
class _Pictures:
    """What a file is compared and calibrated on, each (N, C, H, W) in [0, 1]."""

    real: Tensor
    calibration: Tensor
    calibration_sha256: str | None


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    images: Images | None = None,
) -> ExportReport:
    """Write a model as ONNX, prove it, and report what came out.

    The graph is emitted from the blueprint. The metadata carry the spec, its hash, the sha256 of the weights, the range
    of the input, the precision and the version. ONNX's checker and full shape inference must pass. The proof runs the
    file in ONNX Runtime on random and on real images, at batches 1, 7 and 64 where the batch is free: in fp32 logits
    must be torch's to 1e-5 of the largest of them (of 1, if they are smaller), or, where torch's own float32 logits are
    further than that from its float64 ones, to a few times that distance. In fp16 and int8 they must be numbers; how
    far they are is for the report to say.
    images: real ones, of the model's size; without them, scikit-learn's digits, scaled. int8 must have them: the first
    `calibration` give the ranges of activations, and the comparison is on others, if there are more.
    Raises ExportError, and writes nothing; DataError if the images do not fit.
    """
    options = ExportOptions() if options is None else options
    if Path(path).is_dir():
        raise ExportError(f"{path}: expected the path of a file to write, got a folder")
    network = _copied(model, path)
    size = _input_size(network, options, path)
    pictures = _pictures(options, images, size, path)
    proto = to_onnx(network, options)
    if options.precision == "int8":
        proto = _with_metadata(quantised(proto, pictures.calibration, batch=options.batch), network, options)
    _check(proto, path)
    serialized = proto.SerializeToString()
    comparisons: tuple[Comparison, ...] = ()
    rounding = None
    if options.prove:
        try:
            if options.precision == "fp32":
                comparisons, rounding = prove(network, serialized, pictures.real, batch=options.batch)
            else:
                comparisons = compare(network, serialized, pictures.real, batch=options.batch)
        except ProofError as error:
            raise ExportError(f"{path}: {error}") from error
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
        calibration=pictures.calibration_sha256,
        comparisons=comparisons,
        rounding=rounding,
        latencies=latencies(serialized, size, batch=options.batch) if options.prove else (),
    )


def to_onnx(network: Network, options: ExportOptions | None = None) -> onnx.ModelProto:
    """The model in eval mode as an ONNX model, in fp32 or fp16; of int8, what is quantised then."""
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
        },
    )
    return proto


def _copied(model: nn.Module, path: str | os.PathLike[str]) -> Network:
    """The model in float32 and eval mode, on the CPU, if it can be exported."""
    if not isinstance(model, Network):
        raise ExportError(f"{path}: expected a model compiled from a spec, got {type(model).__name__}")
    pool = model.global_pool.pool_type
    if pool != "avg":
        raise ExportError(f"{path}: expected a model whose global pooling averages, got {pool or 'none'!r}")
    return copy.deepcopy(model).float().cpu().eval().requires_grad_(False)


def _input_size(network: Network, options: ExportOptions, path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(C, H, W) of an image."""
    config = network.spec.network
    height, width = options.input_size or config.input_size[1:]
    stride = STEM_STRIDES[config.stem] * 2 ** len(config.reductions)
    if height % stride or width % stride:
        raise ExportError(f"{path}: expected a height and width that {stride} divides, got {height} and {width}")
    return network.in_chans, height, width


def _pictures(
    options: ExportOptions, images: Images | None, size: tuple[int, int, int], path: str | os.PathLike[str]
) -> _Pictures:
    if images is None and options.precision == "int8":
        raise ExportError(f"{path}: expected real images, on which int8 finds the ranges of activations, got none")
    if images is None:
        return _Pictures(_digits(size), torch.empty(0), None)
    if tuple(images.pixels.shape[1:]) != size:
        found = tuple(images.pixels.shape[1:])
        raise data.DataError(f"{images.name}: expected images of (channels, height, width) {size}, got {found}")
    wanted = max(BATCHES) if options.precision == "fp32" else COMPARED
    if options.precision != "int8":
        return _Pictures(images[:wanted].batch(slice(None))[0], torch.empty(0), None)
    first, rest = images[: options.calibration], images[options.calibration :]
    if len(first) < (options.batch or 1):
        raise ExportError(f"{path}: expected at least {options.batch} images to calibrate on, got {len(first)}")
    real = rest if len(rest) else first
    return _Pictures(real[:wanted].batch(slice(None))[0], first.batch(slice(None))[0], first.sha256)


def _digits(size: tuple[int, int, int]) -> Tensor:
    """Real images for a model of any size: scans of handwritten digits, (N, C, H, W)."""
    scans, _ = data.digits()[1][: max(BATCHES)].batch(slice(None))
    scaled = nn.functional.interpolate(scans[:, :1], size=size[1:], mode="bilinear", align_corners=False)
    return scaled.expand(-1, size[0], -1, -1).contiguous()


def _check(proto: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """ONNX's checker, full shape inference, and finite numbers."""
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
