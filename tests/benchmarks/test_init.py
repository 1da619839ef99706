"""The public face of the benchmarks: every name is there, documented, and loaded when it is first used."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from robnet_zoo import benchmarks


@pytest.mark.parametrize("name", benchmarks.__all__)
def test_every_public_name_is_there_and_explains_itself(name: str) -> None:
    value = getattr(benchmarks, name)
    assert name in dir(benchmarks)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__


def test_every_lazy_name_is_public() -> None:
    assert sorted(benchmarks.__all__) == sorted(name for names in benchmarks._LAZY.values() for name in names)


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {path.stem for path in Path(benchmarks.__file__).parent.iterdir()}
    assert not modules & set(benchmarks.__all__)  # an import of the module would replace the name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module .robnet_zoo\.benchmarks. has no attribute 'evalute'"):
        _ = benchmarks.evalute
