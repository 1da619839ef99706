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

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy

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

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".classifier": ("OnnxClassifier", "Provider"),
        ".exporter": ("ExportReport", "export", "to_onnx"),
        ".file": ("OnnxFile", "read_file"),
        ".loader": ("load", "rebuild"),
        ".options": ("ExportOptions", "Precision"),
        ".to_torch": ("GraphModule",),
        ".verify": ("Latency", "Parity"),
        "robnet_zoo.errors": ("ExportError", "OnnxFileError", "UnsupportedError"),
    },
)
