"""Operators of images whose channels lie side by side in blocks, which ONNX Runtime writes at its last level.

Here images keep the shape (N, C, H, W), with C filled up with zeros to whole blocks. How wide a block is depends on the
processor and is not in the file: ONNX Runtime reads a file in the blocks of the processor that it runs on, and so does
this module. The domain is com.microsoft.nchwc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from robnet_zoo.converters.onnx.file import session_on_cpu
from robnet_zoo.converters.onnx.operators.node import MICROSOFT, OnnxNode, Operator
from robnet_zoo.converters.onnx.operators.pooling import OPERATORS as POOLING
from robnet_zoo.converters.onnx.operators.resampling import OPERATORS as RESAMPLING
from robnet_zoo.converters.onnx.operators.runtime import fused_conv

DOMAIN = f"{MICROSOFT}.nchwc"
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")


@cache
def block_size() -> int:
    """Return how many channels ONNX Runtime keeps side by side on this processor; 1 if it has no blocks here.

    ONNX Runtime does not tell, but fills up the channels of a convolution that it optimises.
    """
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weight")
    image, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, 1, 1)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "weight"], ["y"])], "probe", [image], [result], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session_on_cpu(model.SerializeToString(), options)
        optimised = onnx.load(options.optimized_model_filepath)
    return max(size for tensor in optimised.graph.initializer for size in tensor.dims)


def _in_order(weight: Tensor, block: int) -> Tensor:
    """Return the weights of a convolution, (O, I, ...), whose numbers lie in blocks of channels.

    Blocks are of output channels, and also of input channels where there are enough for one.
    """
    outputs, channels, *kernel = weight.shape
    axes = range(2, 2 + len(kernel))
    if channels < block:
        blocks = weight.reshape(outputs // block, channels, *kernel, block)
        return blocks.permute(0, -1, 1, *axes).reshape(weight.shape)
    blocks = weight.reshape(outputs // block, channels // block, *kernel, block, block)
    return blocks.permute(0, -1, 1, -2, *axes).reshape(weight.shape)


def _conv(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    weight = _in_order(inputs[1], block_size())
    return fused_conv(node, [inputs[0], weight, *inputs[2:]])


def _pool(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    kind = node.kind.rpartition(".")[2]
    return POOLING[kind](replace(node, kind=kind), inputs)


def _reorder_input(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0].movedim(-1, 1) if node.get("channels_last", 0) else inputs[0]
    return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % block_size()))


def _reorder_output(node: OnnxNode, inputs: list[Tensor]) -> Tensor:
    x = inputs[0][:, : node.attributes["channels"]]
    return x.movedim(1, -1) if node.get("channels_last", 0) else x


def _upsample(node: OnnxNode, inputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    scales = torch.tensor(node.attributes["scales"], dtype=torch.float32)
    transform = node.get("coordinate_transformation_mode", "asymmetric")
    attributes = {
        "mode": node.get("mode", "nearest"),
        "coordinate_transformation_mode": transform,
        "nearest_mode": "floor",
    }
    resize = replace(node, kind="Resize", opset=13, attributes=attributes)
    return RESAMPLING["Resize"](resize, [inputs[0], scales.new_zeros(0), scales])


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        f"{DOMAIN}.Conv": _conv,
        **{f"{DOMAIN}.{name}": _pool for name in POOLS},
        f"{DOMAIN}.ReorderInput": _reorder_input,
        f"{DOMAIN}.ReorderOutput": _reorder_output,
        f"{DOMAIN}.Upsample": _upsample,
    }
)
