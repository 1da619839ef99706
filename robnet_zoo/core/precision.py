"""The devices that compute in bfloat16. Others emulate it: convolutions take 10 times as long and more."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from robnet_zoo.core import lazy
from robnet_zoo.errors import ArgumentError

if TYPE_CHECKING:
    import torch
else:
    torch = lazy.module("torch")

Arithmetic = Literal["bfloat16", "float32"]
UNITS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16")  # of x86 and of ARM, as Linux and torch say


def resolve_dtype(wanted: Arithmetic, device: torch.device | str = "cpu") -> torch.dtype:
    """Return the dtype that a document's `dtype` means on a device: for `bfloat16` float32 if it would be emulated.

    So a recipe or a protocol is fast on every machine. Raises ArgumentError for another dtype.
    """
    if wanted not in get_args(Arithmetic):
        raise ArgumentError(f"dtype: expected {' or '.join(get_args(Arithmetic))}, got {wanted}")
    return torch.bfloat16 if wanted == "bfloat16" and has_bfloat16(device) else torch.float32


def has_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Return whether a device computes in bfloat16 itself."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip is not None
    return device.type != "cpu" or _processor_has_bfloat16()


@lru_cache(maxsize=1)
def _processor_has_bfloat16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.10
    if capabilities is not None:
        units = capabilities()
        return any(units.get(unit, False) for unit in UNITS)
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return any(unit in flags for unit in UNITS)
