"""The public face of the search: every name is there, and none is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

from robnet_zoo import search


def test_every_public_name_can_be_imported_and_has_a_docstring() -> None:
    for name in search.__all__:
        value = getattr(search, name)
        assert value.__doc__, name
        assert name in dir(search)


def test_public_names_are_the_lazy_ones() -> None:
    assert sorted(search.__all__) == sorted(search._LAZY)


def test_importing_the_search_loads_neither_optuna_nor_scikit_learn() -> None:
    code = "import sys, robnet_zoo.search; print({'optuna', 'sklearn', 'sqlalchemy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
