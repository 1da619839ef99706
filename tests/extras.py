"""What the package does beside its work, cut to what tests need that ask about the work."""

from __future__ import annotations

from robnet_zoo.benchmarks.checks import inputs
from robnet_zoo.converters.onnx import exporter, verify
from robnet_zoo.training import records

CUTS = (
    (inputs, "LOOKED_AT", (8,)),  # images that a model is shown in other forms
    (verify, "BATCHES", (1, 7, 16)),  # in which a file is compared with torch
    (exporter, "BATCHES", (1, 7, 16)),
    (exporter, "COMPARED", 32),  # images
    (verify, "RUNS", 2),  # that are timed
    (records, "draw_curves", lambda *_, **__: None),  # which takes longer than a tiny training run
)


def cut() -> None:
    """Cut it in this process."""
    for module, name, value in CUTS:
        setattr(module, name, value)
