"""The original RobNets checkpoints and architecture codes <-> ours.

Checkpoints are pickles. They are read without running one: the only callables that a file can reach are the few
that rebuild tensors and plain containers, objects of other classes become empty placeholders, and a file that asks
for any other call is refused (`UnsafeCheckpointError`).
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, NoReturn

import torch

__all__ = ["CheckpointError", "UnsafeCheckpointError", "convert", "read_checkpoint"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit its spec; one line that names the file and the place."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint whose pickle asks for a call beyond rebuilding tensors. Nothing of it was run."""


# What a file may call. Storage types are torch's own affair: its loader resolves them before this table.
_REBUILDERS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("__builtin__", "dict"): dict,
    ("__builtin__", "list"): list,
    ("__builtin__", "set"): set,
}


class _Refusing(type):
    """The type of placeholders: calling one is what the file's author wanted to happen, so it is refused."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsafeCheckpointError(f"its pickle calls {cls.__qualname__}, which may run code; nothing was run")


def _placeholder(module: str, name: str) -> type:
    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def ignore_state(self: Any, state: Any) -> None:
        return None

    body = {"__new__": new, "__setstate__": ignore_state, "__qualname__": f"{module}.{name}"}
    return _Refusing(name, (), body)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _REBUILDERS.get((module, name))
        return _placeholder(module, name) if known is None else known


class _InertPickle:
    """What torch.load wants of a pickle module."""

    __name__ = "robnet_zoo inert pickle"
    Unpickler = _Unpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        return _Unpickler(file, **options).load()

    @staticmethod
    def loads(data: bytes, **options: Any) -> Any:
        return _Unpickler(io.BytesIO(data), **options).load()
