"""Outside formats to ours and back: the original's checkpoints and codes, genotypes of others, and ONNX files.

`CONVERTERS` is the table that `robnet-zoo convert` reads; `table.py` says how to add a converter. The names of the
`onnx` package are in `robnet_zoo.converters.onnx`.
"""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy
from robnet_zoo.errors import CheckpointError, OutputExistsError, UnsafeCheckpointError

if TYPE_CHECKING:
    from robnet_zoo.converters import onnx
    from robnet_zoo.converters.darts import DartsGenotype, convert_darts, from_darts
    from robnet_zoo.converters.literature import GENOTYPES, MSROBNETS
    from robnet_zoo.converters.msrobnet import convert_msrobnet
    from robnet_zoo.converters.original.codes import (
        convert_codes,
        from_codes,
        from_original_json,
        to_codes,
        to_original_json,
    )
    from robnet_zoo.converters.original.unpickling import read_checkpoint
    from robnet_zoo.converters.original.weights import ConversionReport, convert_checkpoint, convert_state_dict
    from robnet_zoo.converters.table import CONVERTERS, Converter

__all__ = [
    # The table of the command
    "CONVERTERS",
    "Converter",
    # Checkpoints of the original
    "ConversionReport",
    "convert_checkpoint",
    "convert_state_dict",
    "read_checkpoint",
    # Codes of the original
    "convert_codes",
    "from_codes",
    "from_original_json",
    "to_codes",
    "to_original_json",
    # Genotypes of DARTS
    "GENOTYPES",
    "DartsGenotype",
    "convert_darts",
    "from_darts",
    # Genotypes of aw_nas
    "MSROBNETS",
    "convert_msrobnet",
    # ONNX files
    "onnx",
    # Errors
    "CheckpointError",
    "OutputExistsError",
    "UnsafeCheckpointError",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".darts": ("DartsGenotype", "convert_darts", "from_darts"),
        ".msrobnet": ("convert_msrobnet",),
        ".original.codes": ("convert_codes", "from_codes", "from_original_json", "to_codes", "to_original_json"),
        ".original.unpickling": ("read_checkpoint",),
        ".original.weights": ("ConversionReport", "convert_checkpoint", "convert_state_dict"),
        ".literature": ("GENOTYPES", "MSROBNETS"),
        ".table": ("CONVERTERS", "Converter"),
    },
    parts=("onnx",),
)
