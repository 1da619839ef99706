"""Read PyTorch checkpoints of strangers without running them.

A checkpoint is a pickle, and a pickle is a program. It is read here without torch.load and without being run: every
name in it becomes a class that does nothing, the few calls that rebuild tensors and plain containers become records
of our own, and a file that asks for any other call is refused with an UnsafeCheckpointError. Then the tensors of the
state dict, and only these, are read from the records, with their bounds checked.

Why not torch.load(weights_only=True), with inert classes in torch.serialization.safe_globals for unknown names? It
reads the original's files and runs no code, but (tried with torch 2.14):

- a key of a million nested tuples overflows the C stack and kills the process;
- an entry of a zip file may be compressed, so that a few kilobytes become gigabytes, and its checksum is not compared;
- unknown names are listed only for zip files (`get_unsafe_globals_in_checkpoint`), so that an old file with a scheduler
  of another package cannot be read;
- `eval` and `pickle.loads` become inert like any other name, so that a hostile file is read instead of refused.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from robnet_zoo.core.documents import fspath, shown
from robnet_zoo.errors import CheckpointError, UnsafeCheckpointError

MAX_NESTING = 100  # tuples within tuples
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first numbers in torch's format before 1.6


class _Storage(NamedTuple):
    """A sequence of `numel` numbers of the same type somewhere in the file."""

    key: str
    dtype: torch.dtype
    numel: int


class _TensorRecord(NamedTuple):
    """A tensor before its numbers are read: a view of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Inert:
    """An object of a class that does not matter here: it accepts all that the file does to it, and ignores it."""

    __slots__ = ()

    def __new__(cls, *arguments: object) -> _Inert:
        return object.__new__(cls)

    def _ignore(self, *arguments: object) -> None:
        """Ignore items, elements and attributes of an unknown object."""

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _Mapping(dict[Any, Any]):
    """A dict of any kind. Its attributes, such as the `_metadata` of a state dict, are ignored."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Name(type):
    """What a name in a pickle becomes: a new class of inert objects, whose calls are recorded or refused."""

    path: tuple[str, str]  # module, name

    def __call__(cls, *arguments: object) -> Any:
        call = _CALLS.get(cls.path)
        if call is None:
            raise UnsafeCheckpointError([f"its pickle calls {cls}, which may run code; nothing was run"])
        for argument in arguments:
            if isinstance(argument, _Name) and argument.path not in _CALLS:
                raise UnsafeCheckpointError([f"its pickle hands {argument} to {cls}; nothing was run"])
        return call(*arguments)

    def __setattr__(cls, name: str, value: object) -> None:
        raise UnsafeCheckpointError([f"its pickle changes {cls}; nothing was run"])

    @property
    def __setstate__(cls) -> NoReturn:  # reached by a pickle that changes the class itself
        raise UnsafeCheckpointError([f"its pickle changes {cls}; nothing was run"])

    def __str__(cls) -> str:
        return shown(".".join(cls.path)).strip('"')


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Mapping[Any, Any] | None = None,
    metadata: object = None,
) -> _TensorRecord:
    """Record a tensor, in the place of torch's function that rebuilds it."""
    if hooks:
        raise UnsafeCheckpointError(["its pickle attaches hooks to a tensor; nothing was run"])
    whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
    numbers = [offset, *size, *stride] if whole else [None]
    if not isinstance(storage, _Storage) or any(not isinstance(number, int) or number < 0 for number in numbers):
        raise CheckpointError(["expected tensors with a storage, an offset, a size and a stride, got something else"])
    return _TensorRecord(storage, offset, size, stride)


def _rebuild_parameter(data: object, requires_grad: bool = True, hooks: Mapping[Any, Any] | None = None) -> object:
    """Return the record of a parameter's tensor."""
    if hooks:
        raise UnsafeCheckpointError(["its pickle attaches hooks to a parameter; nothing was run"])
    return data


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that builds a `kind` from plain data only; it leaves out a default factory, for example."""
    return lambda *arguments: kind(*(argument for argument in arguments if not isinstance(argument, _Name)))


# What training leaves beside the weights: numbers, arrays and random states of numpy, settings. The names stand after
# their modules, and a new name of a module stands beside the old one.
_BESIDE = """
builtins/__builtin__ bool bytearray bytes complex dict float frozenset int list object set str tuple
numpy dtype matrix memmap ndarray
numpy.core.multiarray/numpy._core.multiarray _reconstruct scalar
numpy.core.numeric/numpy._core.numeric _frombuffer
numpy.ma.core/numpy.ma MaskedArray _mareconstruct
numpy/numpy.rec/numpy.core.records/numpy._core.records recarray record
numpy.random._pickle __bit_generator_ctor __generator_ctor __randomstate_ctor
numpy.random.bit_generator SeedSequence __pyx_unpickle_SeedSequence
numpy.random._mt19937 MT19937
numpy.random._pcg64 PCG64 PCG64DXSM
numpy.random._philox Philox
numpy.random._sfc64 SFC64
random Random
torch/torch._C Generator device
argparse Namespace
types SimpleNamespace
collections deque
datetime date datetime time timedelta timezone
pathlib/pathlib._local Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath
_codecs encode
"""
# All calls that a file may ask for. The functions and classes named here are never run.
_IGNORED: Mapping[tuple[str, str], Callable[..., Any]] = {
    (module, name): _Inert
    for modules, *names in map(str.split, _BESIDE.strip().splitlines())
    for module in modules.split("/")
    for name in names
}
_CALLS: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        **_IGNORED,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("collections", "OrderedDict"): _container(_Mapping),
        ("collections", "defaultdict"): _container(_Mapping),
        ("collections", "Counter"): _container(_Mapping),
        ("torch", "Size"): _container(tuple),
    }
)

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }
)


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds plain containers, records and inert objects, and collects the storages of the file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Schedulers and optimizers are not in the standard library, so a name from there is refused before it is used.
        standard = module.split(".")[0] in {*sys.stdlib_module_names, "__builtin__", "copy_reg"}
        if standard and (module, name) not in _CALLS:
            path = shown(f"{module}.{name}").strip('"')
            raise UnsafeCheckpointError([f"its pickle names {path}, which may run code; nothing was run"])
        return _Name("_Named", (_Inert,), {"__slots__": (), "path": (module, name)})

    def persistent_load(self, identifier: Any) -> _Storage:
        match identifier:
            case ("storage", _Name() as kind, str(key), str(), int(numel)) if numel >= 0:
                pass
            case ("storage", _Name() as kind, str(key), str(), int(numel), None) if numel >= 0:
                pass  # the older format has another field, for views of storages
            case _:
                raise CheckpointError(["expected a storage of numbers behind each tensor, got something else"])
        if kind.path[0] not in ("torch", "torch.cuda") or kind.path[1] not in _DTYPES:
            raise CheckpointError([f"expected storages of plain numbers, got {kind}"])
        storage = _Storage(key, _DTYPES[kind.path[1]], numel)
        if self.storages.setdefault(key, storage) != storage:
            raise CheckpointError([f"storage {shown(key)}: expected one type and length, got two"])
        return storage


def _check_opcodes(file: IO[bytes]) -> None:
    """Refuse a pickle that would crash the process, and go back to its start.

    An unpickler allocates as many memo entries as an index asks for, and hashing a tuple recurses without a limit, so
    `stack` and `memo` hold how deeply each value is nested in tuples. Extension codes could bypass `find_class`.
    """
    start, marks = file.tell(), list[int]()
    stack, memo = list[int](), dict[int, int]()
    for opcode, argument, _ in pickletools.genops(file):
        name, before = opcode.name, opcode.stack_before
        marked = name == "POP" and bool(marks) and marks[-1] == len(stack)  # pops the mark itself
        if pickletools.markobject in before or marked:
            bottom = marks.pop() - (0 if marked else before.index(pickletools.markobject))
        else:
            bottom = len(stack) - len(before)
        depth = max(stack[bottom:], default=0) + name.startswith("TUPLE")
        del stack[bottom:]
        if name == "MARK":
            marks.append(len(stack))
            continue
        index = argument if isinstance(argument, int) else 0
        if name in ("GET", "BINGET", "LONG_BINGET"):
            depth = memo[index]
        stack += [depth] * len(opcode.stack_after)
        if name == "MEMOIZE":
            memo[len(memo)] = depth
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[index] = stack[-1]
        if name.startswith("EXT") or depth > MAX_NESTING or (name.endswith("PUT") and index > file.tell() - start):
            raise UnsafeCheckpointError([f"its pickle is built to break its reader ({name}); nothing was run"])
    file.seek(start)


def _unpickle(file: IO[bytes]) -> tuple[Any, dict[str, _Storage]]:
    """Return what the next pickle of a file holds, and the storages that it mentions."""
    _check_opcodes(file)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


_Reader = Callable[[_Storage], bytearray]  # a storage's bytes


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint, without a `module.` prefix, on the CPU and in the file's own dtypes.

    The file may hold a state dict, or a dict with a state dict under `state_dict` or, if it is the only one, any other
    key, in either of torch's formats. No part of it is run.

    Raises:
        UnsafeCheckpointError: the file asks for code to be run.
        CheckpointError: the file is not such a checkpoint, or is damaged.
    """
    source = Path(fspath(path, "the path of a checkpoint", error=lambda text: CheckpointError([text])))
    if not os.path.isfile(source):
        got = "a directory" if os.path.isdir(source) else "something else" if os.path.exists(source) else "no such file"
        raise CheckpointError([f"expected a checkpoint file, got {got}"], source=str(source))
    try:
        with open(source, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            tree, reader = _open_zip(file) if zipped else _open_legacy(file)
            return _read_tensors(_without_prefix(_state_dict(tree)), reader)
    except CheckpointError as error:
        raise type(error)(error.problems, source=str(source)) from None
    except Exception as error:  # a malformed pickle or zip raises nearly anything
        reason = str(error) or type(error).__name__
        text = f"expected a checkpoint written by torch.save, got another or a damaged file ({shown(reason)})"
        raise CheckpointError([text], source=str(source)) from error


def _open_zip(file: IO[bytes]) -> tuple[Any, _Reader]:
    """Return the pickled tree of a file in torch's format since 1.6, and a function that reads its storages."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if any(name.split("/")[-1] == "constants.pkl" or "/code/" in name for name in names):
        raise UnsafeCheckpointError(["it is a TorchScript archive, which is a program; nothing was run"])
    trees = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(trees) != 1 or len(set(names)) != len(names):
        raise CheckpointError([f"expected a zip file with one data.pkl, got {len(trees)} among {len(names)} entries"])
    size = file.seek(0, os.SEEK_END)
    stored = [entry.file_size for entry in archive.infolist() if entry.compress_type == zipfile.ZIP_STORED]
    if (claimed := sum(stored)) > size:  # by entries that overlap
        raise CheckpointError([f"expected entries of at most the file's {size:,} bytes, got {claimed:,}"])
    root = trees[0].removesuffix("data.pkl")

    def read(name: str) -> bytes:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # torch never compresses; bombs do
            raise CheckpointError([f"expected uncompressed entries, got {shown(name)}"])
        return archive.read(name)

    if f"{root}byteorder" in names:
        _check_byte_order(read(f"{root}byteorder").decode())
    tree, _ = _unpickle(io.BytesIO(read(trees[0])))
    return tree, lambda storage: bytearray(read(f"{root}data/{storage.key}"))


def _open_legacy(file: IO[bytes]) -> tuple[Any, _Reader]:
    """Do the same for the format before torch 1.6: five pickles, then the length and the numbers of each storage."""
    magic, _ = _unpickle(file)
    if magic != _MAGIC:
        raise CheckpointError([f"expected a checkpoint written by torch.save, got a pickle of {_kind(magic)}"])
    (protocol, _), (system, _) = _unpickle(file), _unpickle(file)
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise CheckpointError([f"expected format {_PROTOCOL} of torch.save, got {shown(protocol)}"])
    _check_byte_order("little" if system.get("little_endian", True) else "big")
    (tree, storages), (keys, _) = _unpickle(file), _unpickle(file)
    end = os.fstat(file.fileno()).st_size
    positions: dict[str, int] = {}
    for key in keys:
        storage = storages[key]
        (numel,) = struct.unpack("<q", file.read(8))
        positions[key] = file.tell()
        if numel != storage.numel or positions[key] + numel * storage.dtype.itemsize > end:
            raise CheckpointError([f"storage {shown(key)}: expected {storage.numel} numbers, got fewer or more"])
        file.seek(numel * storage.dtype.itemsize, os.SEEK_CUR)

    def read(storage: _Storage) -> bytearray:
        file.seek(positions[storage.key])
        return bytearray(file.read(storage.numel * storage.dtype.itemsize))

    return tree, read


def _check_byte_order(order: str) -> None:
    if order != sys.byteorder:
        raise CheckpointError([f"expected numbers in this machine's byte order, {sys.byteorder}, got {shown(order)}"])


def _state_dict(tree: object) -> dict[str, _TensorRecord]:
    """Return the state dict in a pickled tree."""
    records = tree
    if isinstance(tree, dict):
        nested = ["state_dict"] if "state_dict" in tree else [key for key in tree if _is_state_dict(tree[key])]
        if len(nested) > 1:
            raise CheckpointError([f"expected one state dict, got several, under {', '.join(map(shown, nested))}"])
        records = tree[nested[0]] if nested else tree
    if not isinstance(records, dict) or not records:
        text = "an empty one" if isinstance(records, dict) else _kind(records)
        raise CheckpointError([f"expected a state dict, or a dict with one under 'state_dict', got {text}"])
    wrong = [
        f"{shown(key)}: expected a tensor under a name, got {_kind(value)}"
        for key, value in records.items()
        if not isinstance(key, str) or not isinstance(value, _TensorRecord)
    ]
    if wrong:
        raise CheckpointError(wrong)
    return records


def _is_state_dict(value: object) -> bool:
    """Return whether a part of a tree is a state dict: tensors alone, by the names of parts of modules."""
    return (
        isinstance(value, dict)
        and any(isinstance(key, str) and "." in key for key in value)
        and all(isinstance(tensor, _TensorRecord) for tensor in value.values())
    )


def _without_prefix(records: dict[str, _TensorRecord]) -> dict[str, _TensorRecord]:
    """Return the records without the `module.` that DataParallel puts before every key."""
    if all(key.startswith("module.") for key in records):
        return {key.removeprefix("module."): record for key, record in records.items()}
    return records


def _kind(value: object) -> str:
    """Name what a value is, for a message."""
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, _TensorRecord):
        return "a tensor"
    if type(value) is _Inert:  # of numpy, or a random state
        return "an array or another object that is not a tensor"
    if isinstance(value, _Inert):
        return f"an object of {type(value)}"
    return "dict" if isinstance(value, dict) else type(value).__name__


def _read_tensors(records: dict[str, _TensorRecord], reader: _Reader) -> dict[str, Tensor]:
    """Read the tensors of a state dict; those that share a storage in the file share it again."""
    contents: dict[str, bytearray] = {}
    tensors: dict[str, Tensor] = {}
    for key, (storage, offset, size, stride) in records.items():
        if storage.key not in contents:
            contents[storage.key] = reader(storage)
        data = contents[storage.key]
        numel = math.prod(size)
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if numel else 0
        if len(data) != storage.numel * storage.dtype.itemsize or max(reach, numel) > storage.numel:
            expected = f"expected {shown(list(size))} numbers inside its storage"
            raise CheckpointError([f"{shown(key)}: {expected}, got a storage of {len(data)} bytes"])
        flat = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
        tensors[key] = flat.as_strided(size, stride, offset)
    return tensors
