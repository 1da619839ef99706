"""Every error has the one base, is one of Python's own as well, and speaks in one line."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from robnet_zoo import data, errors
from robnet_zoo.benchmarks import load_protocol, load_target
from robnet_zoo.converters.darts import convert_darts
from robnet_zoo.converters.original.unpickling import read_checkpoint
from robnet_zoo.data.pictures import decode
from robnet_zoo.editor.desk import open_desk
from robnet_zoo.errors import (
    CheckpointError,
    DataError,
    DocumentError,
    OnnxFileError,
    OutputExistsError,
    RobnetZooError,
    TargetError,
    UnsafeCheckpointError,
)
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.zoo.architecture import load_architecture
from robnet_zoo.zoo.registry import load_model

LONG = "a" * 300  # more than a file system allows
ASKED: list[tuple[str, Callable[[str], object]]] = [
    (LONG, load_spec),
    (f"{LONG}.json", load_spec),
    (LONG, load_protocol),
    (LONG, load_architecture),
    (LONG, load_model),
    (LONG, load_target),
    (f"{LONG}.onnx", load_target),
    (f"{LONG}:model", load_target),
    (LONG, read_checkpoint),
    (LONG, convert_darts),
    (f"{LONG}.npz", data.load),
    (f"tiny-imagenet-val:{LONG}", data.load),
    (LONG, open_desk),
]
CLASSES = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if thing.__module__ == errors.__name__]
PYTHONS_OWN = (ValueError, RuntimeError, FileExistsError)


def test_every_error_has_the_one_base() -> None:
    assert len(CLASSES) > 10
    assert all(issubclass(thing, RobnetZooError) for thing in CLASSES)


@pytest.mark.parametrize("thing", [thing for thing in CLASSES if thing is not RobnetZooError])
def test_code_that_knows_nothing_of_the_package_can_catch_an_error(thing: type[Exception]) -> None:
    assert issubclass(thing, PYTHONS_OWN)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DocumentError(["a: b\nc", "d\x1b"], source="line\nbreak"), r"line\nbreak: a: b\nc; d\x1b"),
        (OnnxFileError(Path("a.onnx"), "not a\n  classifier"), "a.onnx: not a classifier"),
        (TargetError("not\na model"), "not a model"),
        (DataError("a\tb.npz: expected images"), r"a\tb.npz: expected images"),
        (OutputExistsError("a\x1b: exists"), r"a\x1b: exists"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_of_several_lines_becomes_one_printable_line(error: RobnetZooError, message: str) -> None:
    assert str(error) == message
    assert message.isprintable()


@pytest.mark.parametrize(("name", "load"), ASKED, ids=range(len(ASKED)))
def test_a_name_that_is_too_long_for_a_file_is_an_error_of_the_package(name: str, load: Callable[[str], object]):
    with pytest.raises(RobnetZooError):
        load(name)


def test_a_picture_whose_name_is_too_long_is_an_error_of_the_package():
    with pytest.raises(DataError, match="expected the file of a picture"):
        decode(Path(f"{LONG}.png"))


@pytest.mark.parametrize("kind", [DocumentError, CheckpointError, UnsafeCheckpointError])
def test_error_survives_pickling_with_its_class_problems_and_source(kind: type[DocumentError]) -> None:
    error = pickle.loads(pickle.dumps(kind(["a: b", "c: d"], source="e")))
    assert (type(error), error.problems, error.source) == (kind, ("a: b", "c: d"), "e")
    assert str(error) == "e: a: b; c: d"


def test_an_error_of_a_file_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(OnnxFileError(Path("a.onnx"), "not a\n  classifier")))
    assert (type(error), str(error)) == (OnnxFileError, "a.onnx: not a classifier")
