"""The public face of the search: no name is loaded before it is used."""

from __future__ import annotations

import ast
import inspect

from robnet_zoo import search


def test_public_names_are_the_lazy_ones() -> None:
    assert all(search.__getattr__(name) is getattr(search, name) for name in search.__all__)


def test_importing_the_search_alone_loads_none_of_its_modules() -> None:
    top = ast.parse(inspect.getsource(search)).body  # what is only for type checkers stands in an `if`
    loaded = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert loaded == {"__future__", "robnet_zoo.core", "typing"}
    assert not any(isinstance(node, ast.Import) for node in top)
