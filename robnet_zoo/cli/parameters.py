"""Parameters and messages that the commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, create_model

from robnet_zoo.core.documents import Document

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


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
        if get_origin(kind) is tuple:
            inner = Annotated[kind, BeforeValidator(_whole)]
        fields[name] = (Annotated[inner | None, Parameter(help=field.description)], None)
    return create_model(f"{model.__name__}Overrides", **fields)


def _whole(given: Any) -> Any:
    """Return the items of a list that a flag gives one at a time, or all of them as a JSON array."""
    return given[0] if isinstance(given, list | tuple) and len(given) == 1 and isinstance(given[0], list) else given


def merged(document: Document, overrides: BaseModel | None) -> Any:
    """Return a document with the given fields replaced, validated again."""
    given = {} if overrides is None else overrides.model_dump(exclude_none=True)

    def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        return base | {
            key: merge(base[key] or {}, value) if isinstance(value, dict) else value for key, value in changes.items()
        }

    return type(document).parse(merge(document.model_dump(), given))
