"""Strict JSON documents: specs, recipes, manifests and results are read and written through this module.

Reading never trusts the file: its size, encoding, nesting, duplicate keys and non-finite numbers are checked
before pydantic sees it, and whatever is wrong becomes one `DocumentError` of one line that names the place.
Writing is atomic: a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

MAX_BYTES = 64 * 2**20  # a results document of 10,000 images with its ledger takes about 10 MB
MAX_LISTED = 4  # problems spelled out in a message; the rest are counted

Item = TypeVar("Item")
Tuple = Annotated[tuple[Item, ...], Field(strict=False)]  # JSON arrays are lists; everything else is strict


class DocumentError(ValueError):
    """A document that is not what it should be.

    problems: one text a problem, each of the form `place: expected ..., got ...`.
    str() is a single line: the source, then the problems.
    """

    def __init__(self, problems: Iterable[str], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        listed = "; ".join(self.problems[:MAX_LISTED])
        more = len(self.problems) - MAX_LISTED
        tail = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{source}: {listed}{tail}" if source else f"{listed}{tail}")

    def __reduce__(self) -> tuple[Callable[..., DocumentError], tuple[Any, ...]]:
        return (_document_error, (self.problems, self.source))


def _document_error(problems: tuple[str, ...], source: str) -> DocumentError:
    return DocumentError(problems, source=source)


class Document(BaseModel):
    """Base of every document: frozen, strict, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [key for key in data if key not in cls.model_fields]
            if unknown:
                raise problems_error([f"unknown key {shown(key)}{nearest(key, cls.model_fields)}" for key in unknown])
        return data

    @classmethod
    def parse(cls, data: Any, *, source: str = "") -> Self:
        """The document in `data`: a mapping, or an instance. Raises DocumentError."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DocumentError(_problems(error), source=source) from None

    @classmethod
    def loads(cls, text: str | bytes, *, source: str = "") -> Self:
        """The document in a JSON text. Raises DocumentError."""
        return cls.parse(parse_json(text, source=source), source=source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The document in a JSON file. Raises DocumentError, also for a file that cannot be read."""
        return cls.loads(read_bytes(path), source=str(path))

    def dumps(self) -> str:
        """The document as JSON, one line a list of plain values, ending in a newline."""
        return _dumps(self.model_dump(mode="json", exclude_none=True)) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document to a file, atomically."""
        write_atomically(path, self.dumps().encode())


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises DocumentError if it cannot be read or is larger than MAX_BYTES."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DocumentError([f"cannot be read: {reason}"], source=str(path)) from None
    if len(data) > MAX_BYTES:
        raise DocumentError([f"expected at most {MAX_BYTES // 2**20} MiB of JSON, got more"], source=str(path))
    return data


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp made it private
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def parse_json(text: str | bytes, *, source: str = "") -> Any:
    """json.loads that refuses what JSON parsers disagree on. Raises DocumentError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                fail(f"key {shown(key)} stands twice in one object")
            result[key] = value
        return result

    def fail(problem: str) -> NoReturn:
        raise DocumentError([problem], source=source)

    def constant(name: str) -> NoReturn:
        fail(f"expected a finite number, got {name}")

    def number(digits: str) -> float:
        value = float(digits)
        return value if abs(value) != float("inf") else fail(f"expected a finite number, got {shown(digits)}")

    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            fail(f"expected UTF-8, got byte 0x{text[error.start]:02x} at offset {error.start}")
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=number)
    except json.JSONDecodeError as error:
        fail(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        fail("expected a document of a few levels, got one that is nested too deeply")
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        fail("expected a number of ordinary size, got an integer of thousands of digits")


def nearest(name: object, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` or, where nothing is near, `, expected one of ...`."""
    choices = list(known)
    close = difflib.get_close_matches(str(name)[:100], choices, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    listed = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f", expected one of {listed}"


def shown(value: object) -> str:
    """A value as it stands in a message: short, one line, in JSON's own spelling, safe to print anywhere."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = ascii(value) if isinstance(value, (str, bytes, int, float)) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def problems_error(problems: Iterable[str]) -> PydanticCustomError:
    """The error by which a validator reports several problems, each `place: text` or `text`."""
    listed = tuple(problems)
    return PydanticCustomError("problems", "{text}", {"text": "; ".join(listed), "problems": listed})


def _problems(error: ValidationError) -> list[str]:
    result: list[str] = []
    for detail in error.errors(include_url=False):
        place = _place(detail["loc"])
        for text in detail.get("ctx", {}).get("problems", None) or [_expectation(detail)]:
            result.append(f"{place}: {text}" if place else text)
    return result


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for step in location:
        if isinstance(step, int):
            place += f"[{step}]"
        else:
            name = step if step.isidentifier() else shown(step)
            place += f".{name}" if place else name
    return place


def _expectation(detail: ErrorDetails) -> str:
    """`expected ..., got ...` for one of pydantic's errors."""
    got = shown(detail["input"])
    match detail["type"]:
        case "missing":
            return "missing"
        case "literal_error":
            return f"expected {detail['ctx']['expected']}, got {got}"
        case "string_pattern_mismatch":
            return f"expected a text that matches {detail['ctx']['pattern']}, got {got}"
        case "model_type" | "dict_type":
            return f"expected an object, got {got}"
        case "tuple_type":
            return f"expected a list, got {got}"
    message = detail["msg"]
    for prefix, instead in (("Input should be ", "expected "), ("Value should ", "expected it to ")):
        if message.startswith(prefix):
            return f"{instead}{message.removeprefix(prefix)}, got {got}"
    return f"{message[0].lower()}{message[1:]}, got {got}"


def _dumps(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = (f"{inner}{json.dumps(key)}: {_dumps(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(inner + _dumps(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
