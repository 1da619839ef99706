"""Parameters and messages that the commands share."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from cyclopts import CoercionError, Parameter, Token, convert

from robnet_zoo.errors import printable

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Numbers = Annotated[tuple[float, ...] | None, Parameter(negative=())]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
Quiet = Annotated[
    bool,
    Parameter(
        name=["--quiet", "-q"], negative="", help="Show no progress, and print only what is asked for, such as JSON."
    ),
]
NUMBERS = (int, float)
LONG_WORD = re.compile(r"(\S{100})\S{100,}(\S{50})")


def converted(kind: Any, tokens: Sequence[Token]) -> Any:
    """Return the value of a flag as cyclopts converts it, but integers exactly, and lists also with commas.

    These are lists of numbers, and of names of which there is a choice.

    cyclopts itself rounds 2.9 to 3.
    """
    if _separable(kind):
        tokens = [token.evolve(value=part) for token in tokens for part in parts(token.value) or ("",)]
    return convert(kind, tokens, converter=_value)


# What holds for every flag of every command: one that takes a list takes all the values that follow it, and values that
# begin with a bracket, as names of files may, are not read as JSON.
EVERY_FLAG = Parameter(converter=converted, consume_multiple=(1, None), json_list=False)


def _value(kind: Any, text: str) -> Any:
    if kind not in NUMBERS:
        return convert(kind, [text])
    with suppress(ValueError):
        value = kind(text)
        if value == value:  # not NaN
            return value
    expected = "an integer" if kind is int else "a number"
    raise CoercionError(msg=f"expected {expected}, got {text!r}")


def _separable(kind: Any) -> bool:
    """Return whether a type is a list or tuple of numbers or choices, or either that or nothing."""
    if get_origin(kind) in (Union, UnionType):
        return any(map(_separable, get_args(kind)))
    if get_origin(kind) not in (list, tuple):
        return False
    item = get_args(kind)[0]
    return item in NUMBERS or get_origin(item) is Literal


def parts(text: str) -> list[str]:
    """Return the numbers in `.485 .456`, `.485,.456` or `(.485, .456)`, or what stands in their places."""
    return re.findall(r"[^\s,()[\]]+", text)


def is_first() -> bool:
    """Return whether this is the process that prints, under torchrun or alone."""
    return int(os.environ.get("RANK", "0")) == 0


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2: printable, and without the middle of words that fill lines."""
    line = LONG_WORD.sub(r"\1...\2", " ".join(message.split()))
    remark(line, prefix="robnet-zoo: ")
    sys.exit(2)


def remark(line: str, *, prefix: str = "") -> None:
    """Print a line on stderr, and write it into the file of `--log-file` without the prefix."""
    print(f"{prefix}{printable(line)}", file=sys.stderr)
    logging.getLogger(__name__).info("%s", printable(line))  # below what the terminal shows
