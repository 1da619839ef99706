"""Small ONNX files whose logits are the pixels times a matrix, in every convention."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)  # of 3 channels of 2x2 pixels, 4 classes


def linear(path, *, batch="batch", kind=TensorProto.FLOAT, nhwc=False, extra=(), outputs=("y",)):
    """Write a file that multiplies the pixels of an image by WEIGHT, and does `extra` with the product, `y`."""
    shape = [batch, 2, 2, 3] if nhwc else [batch, 3, 2, 2]
    nodes = [helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2])] if nhwc else []
    flat = "nchw" if nhwc else "images"
    nodes += [
        helper.make_node("Flatten", [flat], ["flat"]),
        helper.make_node("Cast", ["flat"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "weight"], ["y"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def product(images):
    return images.flatten(1) @ torch.from_numpy(WEIGHT)


IMAGES = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))
NODE = helper.make_node
