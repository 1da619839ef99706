"""The face of the converters: the types of its functions can be looked up, and ONNX Runtime waits until it is used."""

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest

from robnet_zoo import converters
from robnet_zoo.converters import onnx

FUNCTIONS = [
    getattr(module, name)
    for module in (converters, onnx)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_the_type_of_every_argument_of_a_public_function_can_be_looked_up(function) -> None:
    assert get_type_hints(function).keys() >= {*inspect.signature(function).parameters, "return"}


def test_onnx_runtime_is_imported_only_when_it_is_used() -> None:
    code = "import sys, robnet_zoo.converters; print(sorted({'onnx', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
