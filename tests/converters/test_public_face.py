"""What the faces of the converters export is there, documented and typed, and costs nothing before it is used."""

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest

from robnet_zoo import converters
from robnet_zoo.converters import onnx

NAMES = [(module, name) for module in (converters, onnx) for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module.__name__}.{name}" for module, name in NAMES])
def test_every_public_function_and_class_has_a_docstring_and_a_type_for_every_argument(module, name) -> None:
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert get_type_hints(value).keys() >= {*inspect.signature(value).parameters, "return"}


def test_no_name_of_the_onnx_face_is_hidden_by_a_module() -> None:
    for name in onnx.__all__:
        assert not inspect.ismodule(getattr(onnx, name)), name


def test_onnx_runtime_is_imported_only_when_it_is_used() -> None:
    code = "import sys, robnet_zoo.converters; print(sorted({'onnx', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
