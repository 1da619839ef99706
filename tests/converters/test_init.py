"""The face of the converters: the types of its functions can be looked up."""

import inspect
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
