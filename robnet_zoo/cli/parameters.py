"""Parameters and messages that the commands share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

from cyclopts import CoercionError, Parameter, Token, convert
from pydantic import BaseModel, BeforeValidator, create_model

from robnet_zoo.core.documents import Document

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Numbers = Annotated[tuple[float, ...] | None, Parameter(negative=(), json_list=False)]  # [.5] is not JSON
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
NUMBERS = (int, float)


def converted(kind: Any, tokens: Sequence[Token]) -> Any:
    """Return the value of a flag as cyclopts converts it, but integers exactly, and lists of numbers also with commas.

    cyclopts itself rounds 2.9 to 3.
    """
    if _numbers_in(kind):
        tokens = [token.evolve(value=part) for token in tokens for part in _parts(token.value)]
    return convert(kind, tokens, converter=_value)


# What holds for every flag of every command: one that takes a list takes all the values that follow it.
EVERY_FLAG = Parameter(converter=converted, consume_multiple=(1, None))


def _value(kind: Any, text: str) -> Any:
    if kind not in NUMBERS:
        return convert(kind, [text])
    try:
        return kind(text)
    except ValueError:
        expected = "an integer" if kind is int else "a number"
        raise CoercionError(msg=f"expected {expected}, got {text!r}") from None


def _numbers_in(kind: Any) -> bool:
    """Return whether a type is a list or tuple of numbers, or either that or nothing."""
    if get_origin(kind) in (Union, UnionType):
        return any(map(_numbers_in, get_args(kind)))
    return get_origin(kind) in (list, tuple) and get_args(kind)[0] in NUMBERS


def _parts(text: str) -> Iterator[str]:
    """Yield the numbers in `.485 .456`, `.485,.456` or `(.485, .456)`, or what stands in their places."""
    yield from re.findall(r"[^\s,()[\]]+", text)


def is_first() -> bool:
    """Return whether this is the process that prints, under torchrun or alone."""
    return int(os.environ.get("RANK", "0")) == 0


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"robnet-zoo: {message}", file=sys.stderr)
    sys.exit(2)


def partial(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a document with every field optional: what flags may override."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if get_origin(kind) in (Union, UnionType) and len(get_args(kind)) == 2 and get_args(kind)[1] is type(None):
            kind = get_args(kind)[0]  # a part that may be none is overridden field by field too
        inner: Any = partial(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else kind
        repeated = Parameter()
        if get_origin(kind) is tuple:  # of any length here: the document itself checks that
            item: Any = get_args(kind)[0]
            inner = Annotated[tuple[item, ...], BeforeValidator(_items)]
            if isinstance(item, type) and issubclass(item, BaseModel):  # each, or all in an array, is a value in JSON
                repeated = Parameter(consume_multiple=False)
        fields[name] = (Annotated[inner | None, Parameter(help=field.description), repeated], None)
    return create_model(f"{model.__name__}Overrides", **fields)


def _items(given: Any) -> Any:
    """Return the items of a list that a flag gives one at a time, separated by commas, or as a JSON array."""
    if not isinstance(given, list | tuple):
        return given
    if len(given) == 1 and isinstance(given[0], list):
        return given[0]
    return [part for item in given for part in (_parts(item) if isinstance(item, str) else [item])]


def merged(document: Document, overrides: BaseModel | None) -> Any:
    """Return a document with the given fields replaced, validated again."""
    return document.overridden({} if overrides is None else overrides.model_dump(exclude_none=True))
