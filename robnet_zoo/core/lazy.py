"""Names and modules that are imported when they are first used: torch and timm alone take seconds to import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def face(
    package: str, homes: Mapping[str, Iterable[str]], *, parts: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that imports its public names when they are first used.

    Args:
        package: the package's name.
        homes: the names that each module brings, by its full name or, with a dot before it, its name in the package.
        parts: the subpackages that are attributes too.
    """
    modules = {name: module for module, names in homes.items() for name in names}
    subpackages = frozenset(parts)

    def get(name: str) -> Any:
        if name in subpackages:
            return import_module(f"{package}.{name}")
        if name in modules:
            return getattr(import_module(modules[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *subpackages})

    return get, names


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


def module(name: str) -> Any:
    """Return a stand-in for a module, which is imported when an attribute of it is first used.

    A file whose documents can be read without torch binds torch to it, and imports the real one only for type checkers.
    """
    return _Module(name)
