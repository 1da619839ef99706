"""What README and docs use is importable, explained and typed, and names in the package mean one thing."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import robnet_zoo

ROOT = Path(__file__).parents[1]
FACES = (  # of robnet_zoo
    "",
    ".attacks",
    ".benchmarks",
    ".converters",
    ".converters.onnx",
    ".data",
    ".genotype",
    ".search",
    ".training",
)
NO_NAMES = {"found", "of", "one", "place", "said"}  # of a variable, an argument, a function or a class
BUILT_IN = {"Exception", "IndexError", "KeyError", "LookupError", "OSError", "RuntimeError", "TypeError", "ValueError"}
# Errors of Python's own that are raised on purpose, by file and class, and why none of ours takes their place.
PYTHONS_OWN = {
    ("robnet_zoo/genotype/genotype.py", "TypeError"): "a frozen dictionary refuses as Python's own frozen types do",
    ("robnet_zoo/reports/robustness/published.py", "KeyError"): "a lookup by key fails as a dictionary's does",
}


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every source file, by its path."""
    return parsed("robnet_zoo", "tools")


def parsed(*folders: str) -> dict[str, ast.Module]:
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def nodes(*kinds: type[ast.AST], tests: bool = False) -> Iterator[tuple[str, Any]]:
    for path, tree in (trees() | (parsed("tests") if tests else {})).items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kinds))


def faces() -> list[ModuleType]:
    return [importlib.import_module(f"robnet_zoo{face}") for face in FACES]


PUBLIC = [(face, name) for face in faces() for name in face.__all__]
IDS = [f"{face.__name__}.{name}" for face, name in PUBLIC]


@pytest.mark.parametrize(("face", "name"), PUBLIC, ids=IDS)
def test_a_public_name_can_be_imported(face: ModuleType, name: str) -> None:
    assert hasattr(face, name)
    assert name in dir(face)


@pytest.mark.parametrize(("face", "name"), PUBLIC, ids=IDS)
def test_a_public_class_or_function_has_a_docstring(face: ModuleType, name: str) -> None:
    thing = getattr(face, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        text = thing.__doc__ or ""
        assert text
        assert not text.startswith(f"{name}("), "expected more than what a dataclass says of itself"


@pytest.mark.parametrize(("face", "name"), PUBLIC, ids=IDS)
def test_every_argument_of_a_public_function_has_a_type(face: ModuleType, name: str) -> None:
    thing = getattr(face, name)
    if inspect.isfunction(thing):
        functions = {name: thing}
    elif inspect.isclass(thing):
        functions = {key: value for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"}
    else:
        functions = {}
    for key, function in functions.items():
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, key
        bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
        assert set(bare) <= {"self", "cls"}, key


@pytest.mark.parametrize("face", faces(), ids=lambda face: face.__name__)
def test_a_public_name_is_listed_once(face: ModuleType) -> None:
    assert len(face.__all__) == len(set(face.__all__))


def test_errors_are_defined_in_one_file() -> None:
    files = {path for path, node in nodes(ast.ClassDef) if node.name.endswith("Error")}
    assert files == {"robnet_zoo/errors.py"}


def test_an_error_raised_on_purpose_is_of_the_package() -> None:
    raised = set()
    for path, node in nodes(ast.Raise):
        call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(call, ast.Name) and call.id in BUILT_IN:
            raised.add((path, call.id))
    assert raised == set(PYTHONS_OWN)


def test_no_two_public_classes_share_a_name() -> None:
    where = defaultdict(list)
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(path)
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_no_name_is_a_word_that_says_nothing() -> None:
    named: list[tuple[str, int, str]] = []
    for path, node in nodes(ast.Name, ast.arg, ast.FunctionDef, ast.ClassDef, tests=True):
        if isinstance(node, ast.Name):
            name = node.id if isinstance(node.ctx, ast.Store) else ""
        else:
            name = node.arg if isinstance(node, ast.arg) else node.name
        if name in NO_NAMES:
            named.append((path, node.lineno, name))
    assert named == []


def test_every_face_is_a_room_of_the_package() -> None:
    assert all(Path(face.__file__ or "").is_relative_to(Path(robnet_zoo.__file__).parent) for face in faces())
