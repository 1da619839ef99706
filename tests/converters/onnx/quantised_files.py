"""Small ONNX files that ONNX Runtime's own quantiser has written, in every form."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType

SHAPE = (3, 8, 8)
CLASSES = 4
FORMS = ("dynamic", "qdq", "qoperator")


def plain(path):
    """Write a classifier of two convolutions in float32."""
    generator = np.random.default_rng(0)

    def weight(*shape):
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {"w1": weight(8, 3, 3, 3), "w2": weight(8, 8, 3, 3), "w3": weight(CLASSES, 8), "b3": weight(CLASSES)}
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["a"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4, strides=[2, 2], name="second"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], transB=1, name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class _Images(quantization.CalibrationDataReader):
    def __init__(self):
        self.batches = iter(np.random.default_rng(1).random((2, 8, *SHAPE), dtype=np.float32))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def quantised(folder, form, *, per_channel=True, seven_bits=True):
    """Write a quantised file and return its path.

    Args:
        folder: where.
        form: of FORMS.
        per_channel: a scale for each channel of the weights.
        seven_bits: of the weights, with which no sum saturates.
    """
    path, source = folder / f"{form}.onnx", plain(folder / "plain.onnx")
    if form == "dynamic":
        quantization.quantize_dynamic(source, path, weight_type=QuantType.QUInt8, per_channel=per_channel)
    else:
        quantization.quantize_static(
            source,
            path,
            _Images(),
            quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=seven_bits,
        )
    return path
