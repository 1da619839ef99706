"""Checkpoints of strangers are read without running them: what is read, what is refused, and what is damaged."""

import argparse
import collections
import contextlib
import datetime
import os
import pickle
import random
import struct
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from robnet_zoo.converters.original.unpickling import read_checkpoint
from robnet_zoo.errors import CheckpointError, UnsafeCheckpointError

BIT_GENERATORS = (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)

# Forms of a file


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "nested"])
def test_every_form_of_file_holds_the_same_state_dict(golden, tmp_path, zipped, prefix, bare):
    _, state_dict = golden("large_c8")
    stored = OrderedDict((prefix + key, value) for key, value in state_dict.items())
    stored._metadata = {"": {"version": 1}}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [100, 150])
    tree = {"epoch": 3, "best_acc": torch.tensor(1.0), "optimizer": optimizer.state_dict(), "state_dict": stored}
    torch.save(
        stored if bare else tree | {"scheduler": scheduler},
        tmp_path / "file.pth.tar",
        _use_new_zipfile_serialization=zipped,
    )
    read = read_checkpoint(tmp_path / "file.pth.tar")
    assert list(read) == list(state_dict)
    assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in state_dict.items())


def test_scheduler_of_an_unknown_class_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / "warmup_schedules.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "class Warmup(dict):\n"
        "    def __setstate__(self, state):\n"
        "        Path(__file__).with_name('imported').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from warmup_schedules import Warmup

    scheduler = Warmup(step=3)
    scheduler.rate = 0.1
    torch.save({"state_dict": {"w": torch.ones(2)}, "scheduler": scheduler}, tmp_path / "file.pth")
    (tmp_path / "imported").unlink()
    monkeypatch.delitem(sys.modules, "warmup_schedules")
    assert read_checkpoint(tmp_path / "file.pth")["w"].tolist() == [1, 1]
    assert "warmup_schedules" not in sys.modules
    assert not (tmp_path / "imported").exists()
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert (tmp_path / "imported").exists()  # the trap works


def test_numpy_accuracy_and_parsed_arguments_beside_the_state_dict_are_ignored(tmp_path):
    stored = {"state_dict": {"w": torch.ones(2)}, "best_acc": np.float64(0.5), "args": argparse.Namespace(lr=0.1)}
    for zipped in (True, False):
        torch.save(stored, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
        assert list(read_checkpoint(tmp_path / "file.pth")) == ["w"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_random_states_and_settings_beside_the_state_dict_are_ignored(tmp_path, protocol):
    beside = {
        "arrays": [np.arange(3.0), np.array([1, "a"], dtype=object), np.zeros(2, [("a", "f4")]), np.array(["a"])],
        "others of numpy": [np.ma.array([1]), np.rec.array([(1, 2.0)]), np.datetime64("2020-01-01")],
        "states": [np.random.get_state(), random.getstate(), torch.get_rng_state(), torch.Generator()],
        "generators": [np.random.Generator(kind(0)) for kind in BIT_GENERATORS],
        "sources": [np.random.RandomState(0), random.Random(0), np.random.SeedSequence(0)],
        "settings": [Path("runs"), collections.deque([1]), types.SimpleNamespace(lr=0.1), 1j],
        "times": [datetime.datetime(2020, 1, 1), datetime.timedelta(1)],
    }
    torch.save({"state_dict": {"w": torch.ones(2)}} | beside, tmp_path / "file.pth", pickle_protocol=protocol)
    assert list(read_checkpoint(tmp_path / "file.pth")) == ["w"]


def test_a_state_dict_may_have_any_key_if_it_is_the_only_one(tmp_path):
    weights = {"a.w": torch.ones(2)}
    torch.save({"net": weights, "acc": torch.tensor(0.5), "rng": {"cpu": torch.ones(3)}}, tmp_path / "file.pth")
    assert list(read_checkpoint(tmp_path / "file.pth")) == ["a.w"]
    torch.save({"net": weights, "ema": weights}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match='expected one state dict, got several, under "net", "ema"'):
        read_checkpoint(tmp_path / "file.pth")


def test_views_of_one_storage_are_read_as_they_were(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    stored = {"whole": whole, "turned": whole.t(), "part": whole[1:3, 2:], "none": torch.zeros(0, 3)}
    for zipped in (True, False):
        torch.save(stored, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
        read = read_checkpoint(tmp_path / "file.pth")
        assert all(torch.equal(read[key], value) for key, value in stored.items())


# Files that run code


class Call:
    """Pickles as a call, which is what unpickling it does."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class StoresCode(dict):
    """Pickles as an OrderedDict whose items come from a call."""

    def __reduce__(self):
        return (OrderedDict, (), None, None, iter([("w", self["call"])]))


def tensor_call(storage=None, hooks=None):
    storage = storage or torch.storage.TypedStorage(
        wrap_storage=torch.UntypedStorage(4), dtype=torch.float32, _internal=True
    )
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, hooks or OrderedDict())


def raw(text):
    """Return a pickle written by hand; MARKER stands for the folder that it makes."""
    return lambda marker: text.replace(b"MARKER", os.fsencode(marker))


def nested(marker):
    return pickle.dumps(Call(os.mkdir, str(marker)), 2)


LIVE_TREES = {  # trees for torch.save; loading one with torch.load makes the folder
    "reduce beside the state dict": lambda m: {"state_dict": {"w": torch.ones(1)}, "scheduler": Call(os.mkdir, str(m))},
    "reduce in the state dict": lambda m: {"state_dict": {"w": Call(os.mkdir, str(m))}},
    "reduce as a key": lambda m: {"state_dict": {"w": torch.ones(1)}, Call(os.mkdir, str(m)): 0},
    "items of an ordered dict": lambda m: StoresCode(call=Call(os.mkdir, str(m))),
    "eval": lambda m: {"w": Call(eval, f"__import__('os').mkdir({str(m)!r})")},
    "exec": lambda m: {"w": Call(exec, f"import os; os.mkdir({str(m)!r})")},
    "partial": lambda m: {"w": Call(partial(os.mkdir), str(m))},
    "inside a tensor's storage": lambda m: {"w": tensor_call(storage=Call(os.mkdir, str(m)))},
    "inside a tensor's hooks": lambda m: {"w": tensor_call(hooks={0: Call(os.mkdir, str(m))})},
    "inside a parameter": lambda m: {"w": Call(torch._utils._rebuild_parameter, Call(os.mkdir, str(m)), True, {})},
    "default factory's argument": lambda m: {"w": Call(defaultdict, None, Call(os.mkdir, str(m)))},
    "a nested checkpoint": lambda m: {"w": Call(torch.storage._load_from_bytes, nested(m))},
    "pickle inside pickle": lambda m: {"w": Call(pickle.loads, nested(m))},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("tree", LIVE_TREES.values(), ids=LIVE_TREES)
def test_tree_that_runs_code_is_refused_and_nothing_runs(tmp_path, tree, zipped):
    marker, file = tmp_path / "ran", tmp_path / "file.pth"
    torch.save(tree(marker), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=rf"^{file}: its pickle .*nothing was run$"):
        read_checkpoint(file)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.load(file, weights_only=False)
    assert marker.exists()  # the trap works


LIVE_PICKLES = {  # pickles that make the folder when they are loaded
    "INST": raw(b"(S'MARKER'\nios\nmkdir\n."),
    "OBJ": raw(b"(cos\nmkdir\nS'MARKER'\no."),
    "NEWOBJ": raw(b"\x80\x02cbuiltins\nlist\ncbuiltins\nmap\n(cos\nmkdir\n(S'MARKER'\nlt\x81\x85R."),
    "STACK_GLOBAL": raw(b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(S'MARKER'\ntR."),
    "dotted name": raw(b"\x80\x04\x8c\x05torch\x8c\x08os.mkdir\x93(S'MARKER'\ntR."),
    "getattr": raw(b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'mkdir'\ntR(S'MARKER'\ntR."),
    "name that looks like a storage": raw(b"cos\nmkdir\n(S'MARKER'\ntRcos\nStorage\n."),
    "BUILD": raw(b"ctorch._utils\n_rebuild_tensor_v2\n(N(S'__kwdefaults__'\ncos\nmkdir\n(S'MARKER'\ntRdtb."),
}


@pytest.mark.parametrize("payload", LIVE_PICKLES.values(), ids=LIVE_PICKLES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])
def test_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path, payload, zipped):
    marker, file = tmp_path / "ran", tmp_path / "file.pth"
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("file/data.pkl", payload(marker))
    else:
        file.write_bytes(payload(marker))
    with pytest.raises(UnsafeCheckpointError, match=rf"^{file}: its pickle .*nothing was run$"):
        read_checkpoint(file)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        pickle.loads(payload(marker))
    assert marker.exists()  # the trap works


INERT_PICKLES = {  # nothing runs when they are loaded, but a call beyond rebuilding is asked for or prepared
    "torch.load": b"ctorch\nload\n(S'other.pth'\ntR.",
    "call of another package": b"csome_package\nrun\n)R.",
    "default factory of another package": b"ccollections\ndefaultdict\n(csome_package\nrun\ntR.",
    "change of a rebuilder": b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__defaults__'\nNstb.",
    "change of a container": b"ccollections\nOrderedDict\n}S'get'\nNsb.",
    "call of a storage type": b"ctorch\nFloatStorage\n(I4\ntR.",
    "call of a scheduler": b"cschedulers\nWarmup\n(I4\ntR.",
}


@pytest.mark.parametrize("payload", INERT_PICKLES.values(), ids=INERT_PICKLES)
def test_pickle_that_asks_for_another_call_is_refused(tmp_path, payload):
    before = torch._utils._rebuild_tensor_v2.__defaults__
    (tmp_path / "file.pth").write_bytes(payload)
    with pytest.raises(UnsafeCheckpointError, match=r"its pickle (calls|hands|changes) "):
        read_checkpoint(tmp_path / "file.pth")
    assert torch._utils._rebuild_tensor_v2.__defaults__ is before
    assert "get" not in vars(collections.OrderedDict)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x02}" + b"N" + b"\x85" * 10**6 + b"Ns.",  # a key whose hash would overflow the C stack
        b"\x80\x02}(0N" + b"q\x000N" + b"h\x00\x86q\x000N" * 10**5 + b"h\x00Ns.",  # the same through the memo
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2**31 entries
        b"\x80\x02\x82\x01.",  # an extension code
    ],
    ids=["nesting", "nesting through the memo", "memo index", "extension code"],
)
def test_pickle_that_would_break_its_reader_is_refused(tmp_path, payload):
    (tmp_path / "file.pth").write_bytes(payload)
    with pytest.raises(UnsafeCheckpointError, match="built to break its reader"):
        read_checkpoint(tmp_path / "file.pth")


def test_torchscript_archive_is_refused(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "file.pth")
    with zipfile.ZipFile(tmp_path / "file.pth", "a") as archive:
        archive.writestr("file/constants.pkl", b"\x80\x02).")
    with pytest.raises(UnsafeCheckpointError, match="TorchScript archive"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "identifier",
    [
        b"(S'module'\nctorch.nn\nLinear\nS'source.py'\nS'text'\nt",  # torch.load would look for the class's source
        b"(S'storage'\nctorch\nSystemStorage\nS'0'\nS'cpu'\nI1\nt",
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI-1\nt",
        b"(S'storage'\nctorch\nFloatStorage\nI0\nS'cpu'\nI1\nt",
        b"I0\n",
        b")",
    ],
)
def test_persistent_identifier_that_is_not_a_storage_is_refused(tmp_path, identifier):
    (tmp_path / "file.pth").write_bytes(b"\x80\x02" + identifier + b"Q.")
    with pytest.raises(CheckpointError, match=r"expected .*storage"):
        read_checkpoint(tmp_path / "file.pth")


# Damaged files


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def intact(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("intact") / "file.pth"
    stored = {"state_dict": {"a": torch.arange(1000.0), "b": torch.ones(3, 3)}}
    torch.save(stored, file, _use_new_zipfile_serialization=request.param)
    return file.read_bytes()


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_one_line_that_names_it(tmp_path, intact, share):
    file = tmp_path / "file.pth"
    file.write_bytes(intact[: int(len(intact) * share)])
    with pytest.raises(CheckpointError, match=rf"^{file}: .*expected .*\Z"):
        read_checkpoint(file)


def test_bytes_that_changed_in_a_zip_are_noticed(tmp_path):
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "file.pth")
    data = bytearray((tmp_path / "file.pth").read_bytes())
    data[data.index(struct.pack("<ff", 500, 501))] ^= 1
    (tmp_path / "file.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "content",
    [b"not a pickle\n", b"\x00" * 100, b"{}", pickle.dumps({"w": 1}), pickle.dumps(3), b"PK\x03\x04" + b"\0" * 60],
)
def test_another_file_is_one_line_that_names_it(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.pth: expected a checkpoint written by torch\.save, got .*\Z"):
        read_checkpoint(tmp_path / "file.pth")


def test_directory_and_missing_file_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}: expected a checkpoint file, got a directory$"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"none\.pth: expected a checkpoint file, got no such file$"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"state_dict": {"w": torch.ones(1), "lr": 0.1}}, '"lr": expected a tensor under a name, got float'),
        ({"state_dict": {"w": np.ones(1)}}, '"w": expected a tensor under a name, got an array or another object'),
        ({"state_dict": {3: torch.ones(1)}}, "3: expected a tensor under a name, got a tensor"),
        ({"epoch": 3, "weights": {}}, '"epoch": expected a tensor under a name, got int; "weights": .* got dict'),
        ({"state_dict": {}}, "expected a state dict, .* got an empty one"),
        ({"state_dict": [1]}, "expected a state dict, .* got list"),
        ([torch.ones(1)], "expected a state dict, .* got list"),
        (torch.nn.Linear(1, 1), "expected a state dict, .* got an object of torch.nn.modules.linear.Linear"),
    ],
)
def test_tree_without_a_state_dict_says_what_it_is(tmp_path, tree, message):
    torch.save(tree, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (4, (1,), (1,)), (0, (2, 2), (3, 1)), (0, (10**12,), (0,)), (-1, (1,), (1,)), (0, (2,), (-1,))],
)
def test_tensor_beyond_its_storage_is_refused(tmp_path, offset, size, stride):
    storage = torch.storage.TypedStorage(wrap_storage=torch.UntypedStorage(16), dtype=torch.float32, _internal=True)
    call = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    torch.save({"w": call}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"expected .*storage"):
        read_checkpoint(tmp_path / "file.pth")


def test_compressed_entry_is_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "file.pth")
    with (
        zipfile.ZipFile(tmp_path / "file.pth") as stored,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(CheckpointError, match="expected uncompressed entries"):
        read_checkpoint(tmp_path / "small.pth")


def test_entries_that_overlap_are_refused(tmp_path):
    """A central directory may list the same bytes many times; here all entries are those of the largest."""
    torch.save({f"w{index}": torch.zeros(10**4) for index in range(9)}, tmp_path / "file.pth")
    with zipfile.ZipFile(tmp_path / "file.pth") as archive:
        last = archive.getinfo(archive.namelist()[-1]).file_size
    data = (tmp_path / "file.pth").read_bytes()
    small = (40_000).to_bytes(4, "little")
    assert last < 40_000
    directory = data.index(b"PK\x01\x02")
    (tmp_path / "overlapping.pth").write_bytes(
        data[:directory] + data[directory:].replace(small + small, (4 * 40_000).to_bytes(4, "little") * 2)
    )
    with pytest.raises(CheckpointError, match=r"expected entries of at most the file's [0-9,]+ bytes, got [0-9,]+"):
        read_checkpoint(tmp_path / "overlapping.pth")
