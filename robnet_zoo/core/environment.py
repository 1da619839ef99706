"""The software and the device with which a result was measured."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from robnet_zoo.core import lazy
from robnet_zoo.core.precision import has_bfloat16
from robnet_zoo.core.wording import counted
from robnet_zoo.version import __version__

if TYPE_CHECKING:
    import torch
else:
    torch = lazy.module("torch")


def software() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    versions = {"robnet_zoo": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "onnxruntime", "onnxruntime-gpu", "pyautoattack"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def device(where: torch.device | str = "cpu") -> str:
    """Return the name of a device: an accelerator, or the processor with the number of threads that torch uses.

    It also says whether `bfloat16` in a document meant float32 (`robnet_zoo.core.precision`).
    """
    cuda = torch.device(where).type == "cuda"
    name = (
        torch.cuda.get_device_name(where) if cuda else f"{_processor()}, {counted(torch.get_num_threads(), 'thread')}"
    )
    return name if has_bfloat16(where) else f"{name}, without bfloat16"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
