"""An ONNX graph in eight bits: static quantisation in QDQ form, a scale for each channel of the weights.

ONNX Runtime's own quantiser does it. Activations are unsigned: so a rectified node needs no operation of its own, and
processors with VNNI multiply them by signed weights four at a time. Those without add two products in 16 bits, where
they may saturate; weights have seven bits, with which they never do, so a file is the same function everywhere. The
head stays in float32: it costs nothing, and logits of 256 steps would tie.
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
BATCH = 16  # images of which the activations are in memory at once
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # without which the quantiser asks for its own preparation


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images, some at a time, as the quantiser asks for them."""

    def __init__(self, images: Tensor, batch: int) -> None:
        self.pieces: Iterator[Tensor] = iter(images.split(batch))

    def get_next(self) -> dict[str, np.ndarray] | None:
        piece = next(self.pieces, None)
        return None if piece is None else {"images": piece.numpy()}


def quantised(proto: onnx.ModelProto, images: Tensor, *, batch: int | None = None) -> onnx.ModelProto:
    """The model with int8 weights, of 7 bits, and uint8 activations, whose ranges are those on the images.

    images: (N, C, H, W) in [0, 1]. batch: how many images the model takes, where that is fixed; what is left over
    calibrates nothing.
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
            _Reader(images, size),
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
    wanted = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(wanted)
    return model
