"""The public face of the benchmarks: every name is loaded when it is first used, and none is hidden by a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo import benchmarks


def test_every_public_name_is_lazy() -> None:
    assert all(benchmarks.__getattr__(name) is getattr(benchmarks, name) for name in benchmarks.__all__)


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {path.stem for path in Path(benchmarks.__file__).parent.iterdir()}
    assert not modules & set(benchmarks.__all__)  # an import of the module would replace the name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module .robnet_zoo\.benchmarks. has no attribute 'evalute'"):
        _ = benchmarks.evalute
