"""Quantise an ONNX graph to eight bits: static, in QDQ form, with a scale for each channel of the weights.

ONNX Runtime's own quantiser does the work. Activations are unsigned, so a rectified node needs no operator of its own,
and processors with VNNI multiply them by signed weights four at a time. Processors without VNNI add two products in 16
bits, which may saturate. Weights therefore have seven bits, with which that cannot happen, and a file is the same
function on every machine. The head stays in float32: it costs almost nothing, and logits of 256 steps would tie.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from torch import Tensor

QUANTISED = ("Conv", "Relu", "Add", "Mul", "Concat", "Slice", "MaxPool", "AveragePool")
BATCH = 16  # images whose activations are in memory at once
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # tells the quantiser that shapes have been inferred


class CalibrationImages(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images in batches, in the form that the quantiser asks for."""

    def __init__(self, images: Tensor, batch: int) -> None:
        self.pieces: Iterator[Tensor] = iter(images.split(batch))

    def get_next(self) -> dict[str, np.ndarray] | None:
        piece = next(self.pieces, None)
        return None if piece is None else {"images": piece.numpy()}


def quantize(proto: onnx.ModelProto, images: Tensor, *, batch: int | None = None) -> onnx.ModelProto:
    """Return the model with int8 weights, of 7 bits, and uint8 activations, whose ranges are those on the images.

    Args:
        proto: the model in float32.
        images: (N, C, H, W) in [0, 1].
        batch: the number of images that the model takes, if that is fixed. Images that do not fill a batch are not
            used.
    """
    size = batch or BATCH
    images = images[: len(images) // size * size] if batch else images
    shaped = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    shaped.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            shaped,
            path,
            CalibrationImages(images, size),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        model = onnx.load(path)
    used = {node.domain or "" for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model
