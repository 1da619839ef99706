"""All of ONNX's operators that are known in torch, by their names.

The definitions are the operators' pages in the ONNX standard, versions 7 to 28, and for the domain com.microsoft ONNX
Runtime's own. An operator that is not here, but that the standard defines as a function of others, is replaced by them
when a graph is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robnet_zoo.converters.onnx.operators import (
    attention,
    blocked,
    convolution,
    elementwise,
    indexing,
    matrix,
    normalisation,
    pooling,
    quantised,
    recurrent,
    reduction,
    resampling,
    runtime,
    shape,
)
from robnet_zoo.converters.onnx.operators.node import MICROSOFT, Operator

KINDS = (
    attention,
    blocked,
    convolution,
    elementwise,
    indexing,
    matrix,
    normalisation,
    pooling,
    quantised,
    recurrent,
    reduction,
    resampling,
    runtime,
    shape,
)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {name: operator for kind in KINDS for name, operator in kind.OPERATORS.items()}
)

# Positions of the inputs that are sizes, axes and the like: numbers that are looked at, and are best kept on the CPU.
SIZES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Col2Im": (1, 2),
        "ConstantOfShape": (0,),
        "CumProd": (1,),
        "CumSum": (1,),
        "DFT": (1, 2),
        "Dropout": (1, 2),
        "Expand": (1,),
        "MaxUnpool": (2,),
        "OneHot": (1,),
        "Pad": (1, 2, 3),
        "Range": (0, 1, 2),
        "Reshape": (1,),
        "Resize": (1, 2, 3),
        "Slice": (1, 2, 3, 4),
        "Split": (1,),
        "Squeeze": (1,),
        "Tile": (1,),
        "TopK": (1,),
        "Trilu": (1,),
        "Unsqueeze": (1,),
        "Upsample": (1,),
        **{name: (1,) for name in reduction.OPERATORS if name.startswith("Reduce")},
    }
)
QUANTISERS = frozenset(quantised.OPERATORS) | {
    f"{MICROSOFT}.{name}" for name in ("DynamicQuantizeLSTM", "NhwcMaxPool", "QAttention")
}
ROUNDERS = frozenset({"CastLike", "Ceil", "Floor", "Round", "Sign"})  # and casts to narrow types
RECURRENT = frozenset(recurrent.OPERATORS)
DATA_DEPENDENT = frozenset({"Compress", "NonZero", "Unique"})  # the sizes of their results are those of no input
