"""Options that no file can be written with are refused."""

import onnx
import pytest

from robnet_zoo.converters.onnx import ExportOptions
from robnet_zoo.errors import DocumentError


def test_an_opset_that_is_too_old_or_unknown_is_refused():
    for opset in (17, onnx.defs.onnx_opset_version() + 1):
        with pytest.raises(DocumentError, match="opset: expected"):
            ExportOptions.parse({"opset": opset})
