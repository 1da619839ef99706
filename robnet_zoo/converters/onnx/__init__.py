"""Models as ONNX files: write and verify them, read them back into torch, run them.

Importing this package is cheap. Its names are loaded from their modules when they are first used, since ONNX, ONNX
Runtime and torch take time to import.

Example:
    >>> from robnet_zoo.converters import onnx
    >>> onnx.export(model, "model.onnx", onnx.ExportOptions(precision="fp16"))
    >>> logits = onnx.OnnxClassifier("model.onnx")(images)
    >>> network = onnx.load("model.onnx")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robnet_zoo.converters.onnx.classifier import OnnxClassifier, Provider
    from robnet_zoo.converters.onnx.exporter import ExportReport, export, to_onnx
    from robnet_zoo.converters.onnx.file import OnnxFile, read_file
    from robnet_zoo.converters.onnx.loader import load, rebuild
    from robnet_zoo.converters.onnx.options import ExportOptions, Precision
    from robnet_zoo.converters.onnx.to_torch import GraphModule
    from robnet_zoo.converters.onnx.verify import Latency, Parity
    from robnet_zoo.errors import ExportError, OnnxFileError, UnsupportedError

__all__ = [
    # Write a file
    "ExportOptions",
    "ExportReport",
    "Latency",
    "Parity",
    "Precision",
    "export",
    "to_onnx",
    # Read it back into torch
    "GraphModule",
    "OnnxFile",
    "load",
    "read_file",
    "rebuild",
    # Run it
    "OnnxClassifier",
    "Provider",
    # Errors
    "ExportError",
    "OnnxFileError",
    "UnsupportedError",
]

_NAMES_BY_MODULE = {
    "converters.onnx.classifier": ("OnnxClassifier", "Provider"),
    "converters.onnx.exporter": ("ExportReport", "export", "to_onnx"),
    "converters.onnx.file": ("OnnxFile", "read_file"),
    "converters.onnx.loader": ("load", "rebuild"),
    "converters.onnx.options": ("ExportOptions", "Precision"),
    "converters.onnx.to_torch": ("GraphModule",),
    "converters.onnx.verify": ("Latency", "Parity"),
    "errors": ("ExportError", "OnnxFileError", "UnsupportedError"),
}
_MODULES = {name: f"robnet_zoo.{module}" for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
