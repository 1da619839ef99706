"""Documents: strict reading, one-line errors, atomic writing."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from robnet_zoo.core.documents import MAX_PROBLEMS, Document, Tuple, exactly, nearest, parse_json, read_bytes, shown
from robnet_zoo.errors import DocumentError


class Part(Document):
    size: Annotated[int, Field(ge=1, le=9)]
    word: str = "a"


class Whole(Document):
    max_bytes = 20_000

    version: Annotated[Literal[1], exactly(1)] = 1
    parts: Tuple[Part] = ()
    by_name: dict[str, Part] = Field(default_factory=dict)
    ratio: float | None = None


class Large(Document):
    kind: Literal["large"] = "large"


class Small(Document):
    kind: Literal["small"] = "small"


class Other(Document):
    kind: Literal["other"] = "other"


class Choice(Document):
    part: Annotated[Large | Small, Field(discriminator="kind")]


class Building(Document):
    size: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        Part(size=self.size)
        return self


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)

UNREADABLE = {
    "nothing": (b"", "expected a JSON document, got nothing"),
    "blanks": (b" \n\t", "expected a JSON document, got nothing"),
    "duplicate key": (b'{"version": 1, "version": 1}', 'key "version" appears twice in one object'),
    "inner duplicate key": (b'{"parts": [{"size": 1, "size": 2}]}', 'key "size" appears twice in one object'),
    "NaN": (b'{"ratio": NaN}', "expected a finite number, got NaN"),
    "infinity": (b'{"ratio": -Infinity}', "expected a finite number, got -Infinity"),
    "overflow": (b'{"ratio": 1e999}', 'expected a finite number, got "1e999"'),
    "nesting": (b"[" * 15_000, "expected a document of a few levels, got one that is nested too deeply"),
    "nested objects": (b'{"a":' * 3_000, "expected a document of a few levels, got one that is nested too deeply"),
    "huge integer": (
        b'{"version": ' + b"1" * 9_000 + b"}",
        "expected a number of ordinary size, got an integer of thousands of digits",
    ),
    "too large": (b"[" * 100_000, "expected at most 19 KiB of JSON, got more"),
    "UTF-16": ('{"version": 1}'.encode("utf-16"), "expected UTF-8, got byte 0xff at offset 0"),
    "UTF-16 without mark": (
        '{"version": 1}'.encode("utf-16-le"),
        "expected UTF-8 text, got a NUL at offset 1: it may be UTF-16",
    ),
    "latin-1": ('{"é": 1}'.encode("latin-1"), "expected UTF-8, got byte 0xe9 at offset 2"),
    "byte order mark": (b"\xef\xbb\xbf{}", "expected UTF-8 without a byte order mark, got one"),
    "trailing comma": (
        b'{"version": 1,}',
        "not JSON: Expecting property name enclosed in double quotes at line 1, column 15",
    ),
    "control character": (b'{"a\nb": 1}', "not JSON: Invalid control character at line 1, column 4"),
    "two documents": (b"{} {}", "not JSON: Extra data at line 1, column 4"),
    "top-level list": (b"[]", "expected an object, got []"),
    "top-level null": (b"null", "expected an object, got null"),
    "surrogate key": (b'{"\\ud800": 1}', 'unknown key "\\ud800", expected one of version, parts, by_name, ratio'),
}


@pytest.mark.parametrize(("data", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_bytes_give_one_line_that_says_why(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as from_bytes:
        Whole.loads(data, source="here")
    assert str(from_bytes.value) == f"here: {message}"
    path = tmp_path / "document.json"
    path.write_bytes(data)
    with pytest.raises(DocumentError) as from_file:
        Whole.load(path)
    assert str(from_file.value) == f"{path}: {message}"


@pytest.mark.parametrize("kind", [kind for kind in UNREADABLE if not kind.startswith(("UTF", "latin"))])
def test_unreadable_text_gives_the_same_error_as_its_bytes(kind: str) -> None:
    data, message = UNREADABLE[kind]
    with pytest.raises(DocumentError) as error:
        Whole.loads(data.decode())
    assert str(error.value) == message


MISTAKES = {
    "list element": ({"parts": [{"size": 1}, {"size": 0}]}, "parts[1].size: expected at least 1, got 0"),
    "upper bound": ({"parts": [{"size": 10}]}, "parts[0].size: expected at most 9, got 10"),
    "bool for integer": ({"parts": [{"size": True}]}, "parts[0].size: expected an integer, got true"),
    "float for integer": ({"parts": [{"size": 1.0}]}, "parts[0].size: expected an integer, got 1.0"),
    "text for integer": ({"parts": [{"size": "1"}]}, 'parts[0].size: expected an integer, got "1"'),
    "integer for text": ({"parts": [{"size": 1, "word": 1}]}, "parts[0].word: expected a text, got 1"),
    "missing": ({"parts": [{}]}, "parts[0].size: missing"),
    "unknown inner key": (
        {"by_name": {"a": {"size": 1, "wrd": 1}}},
        "by_name.a: unknown key \"wrd\", did you mean 'word'?",
    ),
    "misspelt key that is wanted": (
        {"parts": [{"sze": 1}]},
        "parts[0]: unknown key \"sze\", did you mean 'size'?",
    ),
    "odd name": ({"by_name": {"a b\n": {"size": 0}}}, 'by_name["a b\\n"].size: expected at least 1, got 0'),
    "name of another type": ({"by_name": {3: {"size": 1}}}, "by_name[3]: expected a text, got 3"),
    "set for list": ({"parts": {1}}, "parts: expected a list, got set"),
    "object for list": ({"parts": {}}, "parts: expected a list, got {}"),
    "list for object": ({"by_name": []}, "by_name: expected an object, got []"),
    "bool for literal": ({"version": True}, "version: expected 1, got true"),
    "float for literal": ({"version": 1.0}, "version: expected 1, got 1.0"),
    "other literal": ({"version": 2}, "version: expected 1, got 2"),
    "infinity in Python": ({"ratio": float("inf")}, "ratio: expected a finite number, got Infinity"),
    "integer beyond printing": ({"parts": [{"size": 10**5000}]}, "parts[0].size: expected at most 9, got int"),
    "not a document": (3, "expected an object, got 3"),
}


@pytest.mark.parametrize(("data", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_named_with_its_place(data: object, message: str) -> None:
    with pytest.raises(DocumentError) as error:
        Whole.parse(data)
    assert str(error.value) == message


def test_all_mistakes_are_reported_together() -> None:
    data = {"pats": 1, "version": 3, "parts": [{"size": 0, "wrd": 1}], "ratio": "x"}
    with pytest.raises(DocumentError) as error:
        Whole.parse(data)
    assert error.value.problems == (
        "unknown key \"pats\", did you mean 'parts'?",
        "version: expected 1, got 3",
        "parts[0]: unknown key \"wrd\", did you mean 'word'?",
        "parts[0].size: expected at least 1, got 0",
        'ratio: expected a valid number, got "x"',
    )


def test_a_list_of_one_wrong_element_is_not_said_to_be_empty() -> None:
    class Some(Document):
        parts: Annotated[Tuple[Part], Field(min_length=1)]

    with pytest.raises(DocumentError) as error:
        Some.parse({"parts": [{"size": 0}]})
    assert error.value.problems == ("parts[0].size: expected at least 1, got 0",)
    with pytest.raises(DocumentError, match="parts: expected at least 1 of them, got 0"):
        Some.parse({"parts": []})


def test_message_lists_a_few_mistakes_and_counts_the_rest() -> None:
    with pytest.raises(DocumentError, match=r"; and 3 more$") as error:
        Whole.parse({"parts": [{"size": 0}] * 7})
    assert str(error.value).count("parts[") == 4


def test_right_keys_are_listed_once() -> None:
    with pytest.raises(DocumentError) as caught:
        Whole.parse({"a": 1, "b": 2, "pats": 3, "c": 4})
    unknown = [problem for problem in caught.value.problems if "unknown" in problem]
    listing = ", expected one of version, parts, by_name, ratio"
    assert unknown == [
        f'unknown key "a"{listing}', 'unknown key "b"', "unknown key \"pats\", did you mean 'parts'?", 'unknown key "c"'
    ]  # fmt: skip


def test_problems_of_a_hopeless_document_are_bounded() -> None:
    with pytest.raises(DocumentError, match=r"; and many more$") as error:
        Whole.parse({"parts": [{"size": 0}] * 1000})
    assert len(error.value.problems) == MAX_PROBLEMS


MISTAKES_IN_PYTHON: dict[str, tuple[Callable[[], object], str]] = {
    "value": (lambda: Part(size=0), "Part: size: expected at least 1, got 0"),
    "inner key": (
        lambda: Whole(parts=({"size": 1, "wrd": 2},)),  # type: ignore[arg-type]
        "Whole: parts[0]: unknown key \"wrd\", did you mean 'word'?",
    ),
    "missing": (lambda: Part(), "Part: size: missing"),  # type: ignore[call-arg]
    "other document": (lambda: Choice(part=Other()), 'Choice: part.kind: unknown kind "other"'),  # type: ignore[arg-type]
    "unknown kind": (
        lambda: Choice(part={"kind": "lrge"}),  # type: ignore[arg-type]
        "Choice: part.kind: unknown kind \"lrge\", did you mean 'large'?",
    ),
    "no kind": (lambda: Choice(part={}), "Choice: part.kind: missing"),  # type: ignore[arg-type]
    "text for a document": (lambda: Choice(part="large"), 'Choice: part: expected an object, got "large"'),  # type: ignore[arg-type]
    "built by a validator": (lambda: Building(size=0), "Building: size: expected at least 1, got 0"),
    "argument": (lambda: Part.require("part.json", argument="part"), 'part: expected a Part, got "part.json"'),
    "pydantic's own way": (lambda: Part.model_validate({"size": 0}), "Part: size: expected at least 1, got 0"),
    "pydantic's own way from JSON": (lambda: Part.model_validate_json("{"), "Part: not JSON: Expecting property"),
    "change": (
        lambda: setattr(Part(size=1), "size", 2),
        "Part: size: documents are frozen; model_copy(update={...}) returns a changed copy",
    ),
}


@pytest.mark.parametrize(("build", "message"), MISTAKES_IN_PYTHON.values(), ids=MISTAKES_IN_PYTHON.keys())
def test_mistake_in_python_is_an_error_of_the_package(build: Callable[[], object], message: str) -> None:
    with pytest.raises(DocumentError) as error:
        build()
    assert str(error.value).startswith(message)


def complaint(read: Callable[[], object]) -> str | None:
    """Return the message of the DocumentError that reading raises, None if it raises nothing."""
    try:
        read()
    except DocumentError as error:
        return str(error)
    return None


@given(data=JSON)
@settings(deadline=None, max_examples=100)
def test_any_json_value_gives_a_document_or_one_printable_line(data: object) -> None:
    message = complaint(lambda: Whole.parse(data))
    assert message is None or message.isprintable()


@given(data=st.binary(max_size=50) | st.text(max_size=50))
@settings(deadline=None, max_examples=100)
def test_any_text_gives_a_document_or_one_printable_line(data: bytes | str) -> None:
    message = complaint(lambda: Whole.loads(data, source="line\nbreak"))
    assert message is None or (message.isprintable() and message.startswith(r"line\nbreak: "))


@pytest.mark.parametrize("name", ["no/such\nfile", "nul\0", "surrogate\udcff"])
def test_path_that_cannot_be_opened_gives_one_printable_line(name: str) -> None:
    with pytest.raises(DocumentError, match="cannot be read: ") as error:
        Whole.load(name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_what_is_neither_text_nor_path_is_refused(value: object) -> None:
    with pytest.raises(DocumentError, match="expected JSON as text or bytes, got"):
        Whole.loads(value)  # type: ignore[arg-type]
    with pytest.raises(DocumentError, match="expected the path of a file, got"):
        Whole.load(value)  # type: ignore[arg-type]


def test_directory_gives_a_document_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read: "):
        Whole.load(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_endless_file_is_read_no_further_than_the_limit() -> None:
    with pytest.raises(DocumentError, match="expected at most 1 KiB"):
        read_bytes("/dev/zero", limit=1024)


@pytest.mark.parametrize("five", [np.int64(5), np.uint8(5)])
def test_integers_of_numpy_are_integers(five: object) -> None:
    class Run(Document):
        steps: int

    assert Run(steps=five) == Run(steps=5)
    assert type(Run(steps=five).steps) is int
    with pytest.raises(DocumentError, match="steps: expected an integer, got true"):
        Run(steps=True)


def test_changed_copy_is_validated() -> None:
    part = Part(size=1)
    assert part.model_copy(update={"size": 2}) == Part(size=2)
    with pytest.raises(DocumentError, match="size: expected at least 1, got 0"):
        part.model_copy(update={"size": 0})
    with pytest.raises(DocumentError, match="unknown key"):
        part.model_copy(update={"sise": 2})


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_are_equal(duplicate: object) -> None:
    whole = Whole(parts=(Part(size=1),), ratio=0.5)
    assert duplicate(whole) == whole  # type: ignore[operator]


@given(data=st.builds(Whole, parts=st.lists(st.builds(Part, size=st.integers(1, 9)), max_size=3).map(tuple)))
@settings(deadline=None, max_examples=30)
def test_dumps_and_loads_are_inverse(data: Whole) -> None:
    assert Whole.loads(data.dumps()) == data


def test_what_load_would_refuse_is_not_saved(tmp_path: Path) -> None:
    large = Whole(parts=(Part(size=1, word="x" * 30_000),))
    with pytest.raises(DocumentError, match="expected at most 19 KiB"):
        large.save(tmp_path / "large.json")
    assert not list(tmp_path.iterdir())


def test_lists_of_plain_values_take_one_line() -> None:
    assert Whole(parts=(Part(size=1),)).dumps().splitlines()[2:7] == [
        '  "parts": [',
        "    {",
        '      "size": 1,',
        '      "word": "a"',
        "    }",
    ]
    assert parse_json("[1, 2.5, null]") == [1, 2.5, None]


def test_nearest_suggests_lists_or_says_nothing() -> None:
    assert nearest("identty", ["identity", "max_pool"]) == ", did you mean 'identity'?"
    assert nearest("zzz", ["identity", "max_pool"]) == ", expected one of identity, max_pool"
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), ("é\n", '"\\u00e9\\n"'), ([1, True], "[1, true]"), (object(), "object"), (10**5000, "int")],
    ids=["null", "text", "list", "object", "integer"],
)
def test_shown_is_json_or_a_type(value: object, text: str) -> None:
    assert shown(value) == text


def test_shown_cuts_what_is_long_or_endless() -> None:
    endless: list[object] = ["x"]
    endless.append(endless)
    assert len(shown(["abc"] * 10**6)) == 60
    assert shown(endless) == "list"
