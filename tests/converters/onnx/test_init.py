"""The face of the ONNX converters: its modules do not hide its names."""

import inspect

from robnet_zoo.converters import onnx


def test_no_name_of_the_onnx_face_is_hidden_by_a_module() -> None:
    for name in onnx.__all__:
        assert not inspect.ismodule(getattr(onnx, name)), name
