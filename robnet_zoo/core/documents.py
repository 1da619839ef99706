"""Strict JSON documents: specs, recipes, manifests and results are read and written through this module.

Reading never trusts the file: its size, encoding, nesting, duplicate keys and non-finite numbers are checked
before pydantic sees it, and every problem is reported by a `DocumentError` of one line that names the place.
Writing is atomic: a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from numbers import Integral
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError

from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import MAX_PROBLEMS, DocumentError, RobnetZooError

MAX_BYTES = 64 * 2**20  # a results document of 10,000 images with its ledger takes about 10 MB
MAX_SHOWN = 60  # characters of a value in a message

Item = TypeVar("Item")
Tuple = Annotated[tuple[Item, ...], Field(strict=False)]  # JSON arrays are lists; everything else is strict
Place = tuple[str | int, ...]  # the keys and positions that lead to a part of a document
Problem = tuple[Place, str]


class Document(BaseModel):
    """Base of every document: frozen, strict, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    max_bytes: ClassVar[int] = MAX_BYTES  # of the document as JSON

    def __init__(self, /, **data: Any) -> None:
        """Build a document from Python values. Raises DocumentError, whose source is the name of the class."""
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise DocumentError(sentences(error), source=type(self).__name__) from None

    # pydantic then validates the parts of a document without calling this, so that their errors keep their places.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse, as documents are frozen. Raises DocumentError."""
        advice = "model_copy(update={...}) returns a changed copy"
        raise DocumentError([f"{name}: documents are frozen; {advice}"], source=type(self).__name__)

    @model_validator(mode="wrap")
    @classmethod
    def _no_unknown_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report unknown keys with the nearest right one, together with all else that is wrong."""
        if not isinstance(data, Mapping):
            return handler(data)
        data = cls.upgraded(data)
        fields = cls.model_fields
        strange = _first(key for key in data if key not in fields)
        unknown = _unknown_keys(strange, fields)
        sets = [key for key, value in data.items() if isinstance(value, set | frozenset)]
        if sets:  # which pydantic would put in any order
            raise problems_error([*unknown, *(((key,), f"expected a list, got {shown(data[key])}") for key in sets)])
        try:
            document = handler({key: _plain(value) for key, value in data.items() if key in fields})
        except ValidationError as error:
            meant = {_close(key, fields) for key in data if key not in fields}
            follow = [((key,), "missing") for key in meant]  # from a key that is misspelt
            rest = [problem for problem in problems_in(error) if problem not in follow]
            raise problems_error([*unknown, *rest]) if unknown else error from None
        if unknown:
            raise problems_error(unknown)
        return document

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return a document of an older version with the keys of this version; a current one is returned as it is."""
        return data

    @classmethod
    def parse(cls, data: Any, *, source: str = "") -> Self:
        """Return the document in `data`: a mapping, or an instance. Raises DocumentError."""
        try:
            return super().model_validate(data)
        except ValidationError as error:
            raise DocumentError(sentences(error), source=source) from None

    @classmethod
    def model_validate(cls, obj: Any) -> Self:  # type: ignore[override]  # documents are strict: there are no options
        """Return the document in a mapping, or an instance, as `parse` does. Raises DocumentError."""
        return cls.parse(obj, source=cls.__name__)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes) -> Self:  # type: ignore[override]
        """Return the document in a JSON text, as `loads` does. Raises DocumentError."""
        return cls.loads(json_data, source=cls.__name__)

    @classmethod
    def require(cls, value: object, *, argument: str) -> None:
        """Raise DocumentError unless a value that was given for an argument is a document of this class."""
        if not isinstance(value, cls):
            raise DocumentError([f"{argument}: expected a {cls.__name__}, got {shown(value)}"])

    @classmethod
    def loads(cls, text: str | bytes, *, source: str = "") -> Self:
        """Return the document in a JSON text. Raises DocumentError."""
        if not isinstance(text, str | bytes):
            raise DocumentError([f"expected JSON as text or bytes, got {shown(text)}"], source=source)
        _check_size(len(text), cls.max_bytes, source)
        return cls.parse(parse_json(text, source=source), source=source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the document in a JSON file. Raises DocumentError, also for a file that cannot be read."""
        return cls.loads(read_bytes(path, limit=cls.max_bytes), source=os.fsdecode(path))

    def dumps(self) -> str:
        """Return the document as JSON, one line a list of plain values, ending in a newline."""
        return _dumps(self.model_dump(mode="json", exclude_none=True)) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document to a file, atomically. Raises OSError, and DocumentError if `load` would refuse it."""
        data = self.dumps().encode()
        _check_size(len(data), self.max_bytes, os.fsdecode(path))
        write_atomically(path, data)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values for some keys, which are validated. Raises DocumentError.

        pydantic's own does not validate, and a changed copy would keep what the original has cached, such as a hash.
        """
        if not update:
            return super().model_copy(deep=deep)
        copy = super(Document, self._ready_for(update)).model_copy(deep=deep)
        return self.parse({key: getattr(copy, key) for key in type(self).model_fields} | dict(update))

    def overridden(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with other values for some keys, or for some keys of its parts. Raises DocumentError."""
        return self.parse(_overlaid(self._ready_for(changes).model_dump(), changes))

    def _ready_for(self, changes: Mapping[str, Any]) -> Self:
        """Return the document with what follows from the changes, before they are made; by default there is nothing."""
        return self


def _overlaid(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return dict(base) | {
        key: _overlaid(base.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }


def exactly(*values: int) -> BeforeValidator:
    """Return a validator beside Literal[values], for which pydantic also takes true and 1.0: a document says 1."""

    def check(value: Any) -> Any:
        if type(value) is not int or value not in values:
            raise PydanticKnownError("literal_error", {"expected": " or ".join(map(str, values))})
        return value

    return BeforeValidator(check)


def called(expected: str) -> WrapValidator:
    """Return a validator beside Field(pattern=...) for messages that name what is expected instead of the pattern."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if any(detail["type"] != "string_pattern_mismatch" for detail in error.errors(include_url=False)):
                raise
            raise problem_error(f"expected {expected}, got {shown(value)}") from None

    return WrapValidator(check)


def version(current: int, *, oldest: int) -> BeforeValidator:
    """Return what beside Literal[current] accepts the versions from `oldest` on; they become the current one."""

    def check(value: Any) -> Any:
        if type(value) is not int or not oldest <= value <= current:
            expected = " or ".join(str(number) for number in range(oldest, current + 1))
            raise PydanticKnownError("literal_error", {"expected": expected})
        return current

    return BeforeValidator(check)


def renamed(data: Mapping[Any, Any], old: str, new: str) -> Mapping[Any, Any]:
    """Return a document of an older version with a key renamed; a document that has the new key is returned as it is.

    Args:
        data: the document's keys and values; their order is kept.
        old: the key's former name.
        new: its present name.
    """
    if old not in data or new in data:
        return data
    return {new if key == old else key: value for key, value in data.items()}


def _not_a_path(text: str) -> RobnetZooError:
    return DocumentError([text])


def fspath(
    value: object, expected: str = "the path of a file", *, error: Callable[[str], RobnetZooError] = _not_a_path
) -> str:
    """Return a name or a path as text.

    Args:
        value: what a caller gave.
        expected: what it should be, in a message.
        error: makes the exception from a message, by default a DocumentError.

    Raises: the exception, if the value is neither a text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"expected {expected}, got {shown(value)}")
    return os.fspath(value)


def read_bytes(path: str | os.PathLike[str], *, limit: int = MAX_BYTES) -> bytes:
    """Return a file's bytes. Raises DocumentError if it cannot be read or is larger than `limit` bytes."""
    path = fspath(path)
    source = os.fsdecode(path)
    try:
        with open(source, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError([f"cannot be read: {reason}"], source=source) from None
    _check_size(len(data), limit, source)
    return data


def parse_json(text: str | bytes, *, source: str = "") -> Any:
    """Parse JSON like json.loads, but refuse what JSON parsers disagree on. Raises DocumentError."""
    try:
        return json.loads(_decoded(text), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except DocumentError as error:
        raise DocumentError(error.problems, source=source) from None
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at")
        problem = f"not JSON: {reason} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = "expected a document of a few levels, got one that is nested too deeply"
    except ValueError:
        problem = "expected a number of ordinary size, got an integer of thousands of digits"
    raise DocumentError([problem], source=source)


def _decoded(text: str | bytes) -> str:
    if not isinstance(text, str):
        try:
            text = bytes(text).decode()
        except UnicodeDecodeError as error:
            _refuse(f"expected UTF-8, got byte 0x{error.object[error.start]:02x} at offset {error.start}")
    if text.startswith("\ufeff"):
        _refuse("expected UTF-8 without a byte order mark, got one")
    if "\0" in text:
        _refuse(f"expected UTF-8 text, got a NUL at offset {text.index(chr(0))}: it may be UTF-16")
    if not text.strip():
        _refuse("expected a JSON document, got nothing")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            _refuse(f"key {shown(key)} appears twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    _refuse(f"expected a finite number, got {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if abs(value) != float("inf") else _refuse(f"expected a finite number, got {shown(digits)}")


def _refuse(problem: str) -> NoReturn:
    raise DocumentError([problem])


def _check_size(size: int, limit: int, source: str) -> None:
    if size > limit:
        raise DocumentError([f"expected at most {limit // 1024} KiB of JSON, got more"], source=source)


def _close(name: object, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(str(name)[:100], list(known), n=1)), None)


def nearest(name: object, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` or, if nothing is near, `, expected one of ...`."""
    choices = list(known)
    if (close := _close(name, choices)) is not None:
        return f", did you mean {close!r}?"
    listed = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f", expected one of {listed}" if choices else ""


def shown(value: object) -> str:
    """Return a value as text for a message: short, one line, in JSON's own spelling, safe to print anywhere."""
    text = ""
    try:
        for part in json.JSONEncoder().iterencode(value):  # lazy: a value may be huge
            text += part
            if len(text) > MAX_SHOWN:
                return text[: MAX_SHOWN - 3] + "..."
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__
    return text


def problem_error(text: str) -> PydanticCustomError:
    """Return the error with which a validator of one value reports what is wrong with it."""
    return PydanticCustomError("problem", "{text}", {"text": text})


def problems_error(problems: Iterable[Problem]) -> ValidationError:
    """Return the error with which a model's validator reports several problems, each at a location below the model."""
    return ValidationError.from_exception_data(
        "document",
        [InitErrorDetails(type=problem_error(text), loc=location, input=None) for location, text in _first(problems)],
    )


def _plain(value: Any) -> Any:
    """Return an integer of another library, such as numpy, as one of Python's; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _unknown_keys(keys: Iterable[object], known: Iterable[str]) -> list[Problem]:
    """Return a problem for each key. Only the first that is near none of the right ones lists them."""
    problems: list[Problem] = []
    listed = ""
    for key in keys:
        advice = nearest(key, known)
        problems.append(((), f"unknown key {shown(key)}" + ("" if advice == listed else advice)))
        listed = advice if "expected" in advice else listed
    return problems


def _first(items: Iterable[Item]) -> Iterator[Item]:
    return islice(items, MAX_PROBLEMS)


def problems_in(error: ValidationError) -> list[Problem]:
    """Return what is wrong by an error of pydantic, each with its location."""
    details = error.errors(include_url=False)
    inside = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    details = [each for each in details if each["type"] != "too_short" or each["loc"] not in inside]  # which were wrong
    return [problem for detail in _first(details) for problem in _problems_at(detail)]


def _problems_at(detail: ErrorDetails) -> list[Problem]:
    """Return one of pydantic's errors as problems: several where a validator built a document that is wrong."""
    location, context = detail["loc"], detail.get("ctx", {})
    match detail["type"]:
        case "union_tag_invalid":
            kinds = [kind.strip("' ") for kind in context["expected_tags"].split(",")]
            text = f"unknown {_tag(context)} {shown(context['tag'])}{nearest(context['tag'], kinds)}"
            return [((*location, _tag(context)), text)]
        case "union_tag_not_found":
            return [((*location, _tag(context)), "missing")]
        case "value_error" if isinstance(context["error"], DocumentError):
            return [(location, text) for text in context["error"].problems]
    return [(location, _expectation(detail))]


def _tag(context: Mapping[str, Any]) -> str:
    """Return the key that tells the documents of a union apart."""
    return str(context["discriminator"]).strip("'")


def sentences(error: ValidationError) -> list[str]:
    """Return pydantic's problems, a line each, with the location and what was expected there."""
    return [_sentence(problem) for problem in problems_in(error)]


def _sentence(problem: Problem) -> str:
    """Return a problem as a line: `cells.normal_3.alpha[4][1]: expected 0 or 1, got 2`."""
    location, text = "", problem[1]
    for step in problem[0]:
        if isinstance(step, int):
            location += f"[{step}]"
        elif step.isidentifier():
            location += f".{step}" if location else step
        elif step != "[key]":  # pydantic's mark for the key itself, which the step before names
            location += f"[{shown(step)}]"
    return f"{location}: {text}" if location else text


def _expectation(detail: ErrorDetails) -> str:
    """Return `expected ..., got ...` for one of pydantic's errors."""
    context, got = detail.get("ctx", {}), shown(detail["input"])
    match detail["type"]:
        case "problem":
            return str(context["text"])
        case "missing":
            return "missing"
        case "literal_error":
            expected = context["expected"]
        case "string_pattern_mismatch":
            expected = f"a text that matches {context['pattern']}"
        case "string_too_long":
            expected = f"at most {context['max_length']} characters"
        case "string_type" | "string_unicode":
            expected = "a text"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            expected = "an integer"
        case "float_parsing":
            expected = "a number"
        case "model_type" if isinstance(detail["input"], Document):
            expected = f"a {context['class_name']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            expected = "an object"
        case "tuple_type":
            expected = "a list"
        case "greater_than_equal":
            expected = f"at least {context['ge']}"
        case "less_than_equal":
            expected = f"at most {context['le']}"
        case "too_short":
            expected, got = f"at least {context['min_length']} of them", str(context["actual_length"])
        case "too_long":
            expected, got = f"at most {context['max_length']} of them", str(context["actual_length"])
        case "value_error" | "assertion_error":
            return str(context["error"])
        case _ if detail["msg"].startswith("Input should be "):
            expected = detail["msg"].removeprefix("Input should be ")
        case _:
            return f"{detail['msg']}, got {got}"
    return f"expected {expected}, got {got}"


def _dumps(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = (f"{inner}{json.dumps(key)}: {_dumps(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(inner + _dumps(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
