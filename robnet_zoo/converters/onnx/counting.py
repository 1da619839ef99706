"""Count the weights of an ONNX graph: what training learned, and not every number that its file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType

import onnx
from onnx import TensorProto, helper, inliner

DOMAINS = ("", "ai.onnx")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
SIZES = ("Shape", "Size")
POINTWISE = ("Add", "Sub", "Mul", "Div", "Cast", "Identity")
# Inputs, counted from 0, that are not learned: statistics, scales and zero points, bounds, sizes, initial states.
SETTINGS: Mapping[str, Sequence[int]] = MappingProxyType(
    {
        "BatchNormalization": (3, 4),
        "QuantizeLinear": (1, 2),
        "DequantizeLinear": (1, 2),
        "QLinearConv": (1, 2, 4, 5, 6, 7),
        "QLinearMatMul": (1, 2, 4, 5, 6, 7),
        "QGemm": (1, 2, 4, 5, 7, 8),
        "ConvInteger": (2, 3),
        "MatMulInteger": (2, 3),
        "DynamicQuantizeMatMul": (2, 3),
        "MatMulIntegerToFloat": (2, 3, 4, 5),
        "Clip": (1, 2),
        "Pow": (1,),
        "Pad": (1, 2, 3),
        "Resize": (1, 2, 3),
        "Upsample": (1,),
        "LSTM": (4, 5, 6),
        "GRU": (4, 5),
        "RNN": (4, 5),
    }
)
# Inputs where integers are numbers of a quantised weight.
QUANTISED: Mapping[str, Sequence[int]] = MappingProxyType(
    {
        "DequantizeLinear": (0,),
        "QLinearConv": (3, 8),
        "QLinearMatMul": (0, 3),
        "QGemm": (3, 6),
        "ConvInteger": (1,),
        "MatMulInteger": (0, 1),
        "DynamicQuantizeMatMul": (1,),
        "MatMulIntegerToFloat": (0, 1),
    }
)
Leaves = dict[str, bool]  # tensors behind a constant, and whether they are weights, as integers are where quantised


def count_weights(model: onnx.ModelProto) -> int | None:
    """Return how many numbers the weights of a graph have, or None if the graph does not tell.

    A weight is a tensor of floating-point numbers, or of integers where a quantised weight is read, that is used beside
    something that depends on the image. Statistics of batch norms, scales and zero points, bounds, single numbers
    without an axis, arithmetic on sizes, and what images are normalised with before the first layer do not count. The
    shape of a weight may be changed, or its numbers be dequantised, before it is read.

    That is the number of a torch module's parameters unless the exporter has folded batch norms into convolutions,
    which then have fewer. Buffers of floating-point numbers cannot be told from parameters and count.

    Graphs inside nodes, and integers that an operator of another domain reads in an unknown way, leave the number
    unknown.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants: dict[str, Leaves] = {name: {name: tensor.data_type in FLOATS} for name, tensor in tensors.items()}
    image = {value.name for value in graph.input} - tensors.keys()  # the image, at most normalised
    sizes: set[str] = set()  # what depends on the sizes of the image alone
    scales: set[str] = set()  # of quantisers that look at their input
    counted: set[str] = set()
    for node in graph.node:
        kind, known = node.op_type, node.domain in DOMAINS
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            return None
        if kind == "Constant":
            name = node.output[0]
            values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            constants[name] = {}
            if (tensor := values.get("value")) is not None:
                tensors[name], constants[name] = tensor, {name: tensor.data_type in FLOATS}
            continue
        read = [name for name in node.input if name]
        varying = [name for name in read if name not in constants]
        leaves: Leaves = {}
        for position, name in enumerate(node.input):
            if position in SETTINGS.get(kind, ()):
                continue
            for leaf, is_weight in constants.get(name, {}).items():
                quantised = position in QUANTISED.get(kind, ())
                if varying and not (known or is_weight or quantised) and len(tensors[leaf].dims) > 0:
                    return None
                leaves[leaf] = leaves.get(leaf, False) or is_weight or quantised
        if not varying:
            constants |= dict.fromkeys(node.output, leaves)
        elif kind in SIZES or sizes.issuperset(varying):
            sizes |= set(node.output)
        elif kind in POINTWISE and image.issuperset(varying):
            image |= set(node.output)
        elif not (kind == "Mul" and scales.issuperset(varying)):
            counted |= {leaf for leaf, is_weight in leaves.items() if is_weight and len(tensors[leaf].dims) > 0}
        if kind == "DynamicQuantizeLinear":
            scales.add(node.output[1])
    return sum(prod(tensors[name].dims) for name in counted)
