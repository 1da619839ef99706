"""The table of converters, and what each of them promises.

A converter is one function, in a file of its own, and one entry in `CONVERTERS`. `robnet-zoo convert NAME` offers it as
a command. The function follows these rules:

- Its first parameter is what is converted: a file, a name or a text. All others are options, keyword-only, each of a
  type that a command line can give (bool, int, str, Path, a Literal, or `SpecLike`), and each described in its
  docstring.
- It returns what it made: a `Document`, or a text. The command prints that or writes it to a file.
- If it makes more than a text, it has a parameter `output`, the folder that it writes, and returns a report: a
  `Document` whose str() is one line.
- It raises a `RobnetZooError` for whatever is wrong with its input, and never runs what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from robnet_zoo.converters.darts import convert_darts
from robnet_zoo.converters.msrobnet import convert_msrobnet
from robnet_zoo.converters.original.codes import convert_codes
from robnet_zoo.converters.original.weights import convert_checkpoint
from robnet_zoo.core.documents import Document

Converter = Callable[..., Document | str]

CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        "original": convert_checkpoint,
        "codes": convert_codes,
        "darts": convert_darts,
        "msrobnet": convert_msrobnet,
    }
)
