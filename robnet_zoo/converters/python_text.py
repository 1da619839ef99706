"""Read the values in a Python text without executing it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robnet_zoo.core.documents import nearest, read_bytes, shown
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import MAX_NODES

MAX_BYTES = 2**18  # in a text; published files of a hundred genotypes take 60 kB


def read_file(name: str, *, known: Iterable[str]) -> tuple[str, Path]:
    """Return the text of a file of genotypes, and its path. known: the names of bundled ones, to propose one.

    Raises: DocumentError if there is no such file, or it is larger than MAX_BYTES or not UTF-8.
    """
    path = Path(name)
    if not os.path.exists(path) and not path.suffix:
        near = nearest(name, known)
        raise DocumentError([f"neither a bundled genotype nor a file nor its text{near}"], source=shown(name))
    data = read_bytes(path, limit=MAX_BYTES)
    try:
        return data.decode("utf-8-sig"), path
    except UnicodeDecodeError:
        raise DocumentError(["expected UTF-8 text"], source=str(path)) from None


def statements(text: str, source: str) -> list[ast.stmt]:
    """Return the statements of a Python text. source: names the text in messages.

    Raises: DocumentError if it is larger than MAX_BYTES, or not Python.
    """
    if len(text) > MAX_BYTES:
        raise DocumentError([f"expected at most {MAX_BYTES // 1024} KiB of text, got more"], source=source)
    try:
        return ast.parse(text.strip()).body
    except SyntaxError as error:
        raise DocumentError([f"not Python: {error.msg} at line {error.lineno or 1}"], source=source) from None
    except (ValueError, RecursionError, MemoryError):  # a NUL; nested too deeply
        raise DocumentError(["expected a Python text, got one that Python cannot read"], source=source) from None


def assigned(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """Return the names that a statement assigns to and the expression that they get.

    `a = b = 1` has two names, and an expression by itself has the name "". Any other statement has none.
    """
    match statement:
        case ast.Expr(value=value):
            return [""], value
        case ast.Assign(targets=targets, value=value):
            return [target.id for target in targets if isinstance(target, ast.Name)], value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            return [name], value
    return [], None


def changed(statement: ast.stmt) -> set[str]:
    """Return the names whose values a statement may change: `a += ...`, `a[0] = ...`, `a.append(...)`, `del a[0]`."""
    changing: list[ast.expr] = []
    for node in ast.walk(statement):
        match node:
            case ast.AugAssign(target=target):
                changing.append(target)
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                changing.append(node.value)
            case ast.Call(func=ast.Attribute(value=owner)):
                changing.append(owner)
    names = (name for expression in changing for name in ast.walk(expression))
    return {name.id for name in names if isinstance(name, ast.Name)}


def literal(value: ast.expr) -> Any:
    """Return the value of texts, integers, lists, tuples and range(...); anything else would have to be executed.

    Raises: DocumentError for anything else.
    """
    match value:
        case ast.Constant(value=str() | int() as constant):
            return constant
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [literal(element) for element in elements]
        case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]) if len(bounds) <= 3:
            constants = [bound.value for bound in bounds if isinstance(bound, ast.Constant)]
            numbers = [constant for constant in constants if isinstance(constant, int)]
            if len(numbers) == len(bounds) and 0 not in numbers[2:]:
                return list(
                    range(*numbers)[: MAX_NODES + 1]
                )  # more than MAX_NODES are refused later; a billion would not end
    expected = f"line {value.lineno}: expected texts, integers, lists, tuples and range(...)"
    raise DocumentError([f"{expected}, got {type(value).__name__}, which is not executed"])
