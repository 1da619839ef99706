"""What a result was measured with and on."""

from __future__ import annotations

import platform
from importlib.metadata import distributions, version
from pathlib import Path

import torch

from robnet_zoo.core.precision import has_bfloat16
from robnet_zoo.version import __version__


def software() -> dict[str, str]:
    """Versions of what decides a result."""
    present = {distribution.name.lower() for distribution in distributions()}
    wanted = ("torch", "timm", "onnxruntime", "onnxruntime-gpu", "pyautoattack")
    packages = {name: version(name) for name in wanted if name in present}
    return {"robnet_zoo": __version__, "python": platform.python_version()} | packages


def device(place: torch.device | str = "cpu") -> str:
    """What computes: the accelerator by name, or the processor, the number of threads that torch uses on it, and
    whether `bfloat16` in a document meant float32 (`robnet_zoo.core.precision`)."""
    cuda = torch.device(place).type == "cuda"
    name = torch.cuda.get_device_name(place) if cuda else f"{_processor()}, {torch.get_num_threads()} threads"
    return name if has_bfloat16(place) else f"{name}, without bfloat16"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
