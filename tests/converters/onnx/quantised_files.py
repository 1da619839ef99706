"""Small ONNX files that ONNX Runtime's own quantiser has written, in every form."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tools.quantised import write_form

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


def quantised(folder, form, *, per_channel=True, seven_bits=True):
    """Write a quantised file and return its path.

    Args:
        folder: where.
        form: of FORMS.
        per_channel: a scale for each channel of the weights.
        seven_bits: of the weights, with which no sum saturates.
    """
    path, source = folder / f"{form}.onnx", plain(folder / "plain.onnx")
    images = torch.from_numpy(np.random.default_rng(1).random((16, *SHAPE), dtype=np.float32))
    write_form(source, path, form, images, per_channel=per_channel, seven_bits=seven_bits)
    return path
