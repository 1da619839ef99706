"""Documents as flags: each field of a recipe, a scale or of the options of an export can be overridden by its own."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, create_model

from robnet_zoo.cli.parameters import parts
from robnet_zoo.core.documents import Document


def partial(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of a document with every field optional: what flags may override."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if get_origin(kind) in (Union, UnionType) and len(get_args(kind)) == 2 and get_args(kind)[1] is type(None):
            kind = get_args(kind)[0]  # a part that may be none is overridden field by field too
        inner: Any = partial(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else kind
        repeated = Parameter(json_list=True)
        if get_origin(kind) is tuple:  # of any length here: the document itself checks that
            item: Any = get_args(kind)[0]
            inner = Annotated[tuple[item, ...], BeforeValidator(_items)]
            if isinstance(item, type) and issubclass(item, BaseModel):  # each, or all in an array, is a value in JSON
                repeated = Parameter(consume_multiple=False, json_list=True)
        fields[name] = (Annotated[inner | None, Parameter(help=field.description), repeated], None)
    return create_model(f"{model.__name__}Overrides", **fields)


def _items(given: Any) -> Any:
    """Return the items of a list that a flag gives one at a time, separated by commas, or as a JSON array."""
    if not isinstance(given, list | tuple):
        return given
    if len(given) == 1 and isinstance(given[0], list):
        return given[0]
    return [part for item in given for part in (parts(item) if isinstance(item, str) else [item])]


def merged(document: Document, overrides: BaseModel | None) -> Any:
    """Return a document with the given fields replaced, validated again."""
    return document.overridden({} if overrides is None else overrides.model_dump(exclude_none=True))
