import argparse
import collections
import contextlib
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict
from functools import cache, partial

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from robnet_zoo import compile
from robnet_zoo.converters.original.codes import from_codes, from_original_json
from robnet_zoo.converters.original.unpickling import read_checkpoint
from robnet_zoo.converters.original.weights import convert, convert_file
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import CheckpointError, UnsafeCheckpointError
from robnet_zoo.genotype.genotype import Genotype

GOLDENS = ["free_c8", "free_svhn100_c8", "large_c8", "large_imagenet_c8"]


@pytest.fixture(scope="session")
def golden(official):
    """name -> (spec, state dict) of one of the original's checkpoints; the dict is a copy."""

    @cache
    def load(name):
        return from_original_json(official / f"{name}.json"), read_checkpoint(official / f"{name}.pth.tar")

    return lambda name: (load(name)[0], dict(load(name)[1]))


def changed(spec, **network):
    data = spec.model_dump(mode="json", exclude_none=True)
    data["network"] |= network
    return Genotype.parse(data)


# ---------------------------------------------------------------------------------------------------- goldens


@pytest.mark.parametrize("name", GOLDENS)
def test_converted_weights_give_the_originals_logits_and_input_gradients(official, golden, name):
    spec, state_dict = golden(name)
    network = compile(spec).double().eval()
    network.load_state_dict(convert(state_dict, spec))
    expected = load_file(official / f"{name}.io.safetensors")
    images = expected["input"].double().requires_grad_()
    logits = network(images)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, expected["label"]), images)
    torch.testing.assert_close(logits, expected["logits"].double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, expected["input_grad"].double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["free_c8", "large_imagenet_c8"])
def test_folder_gives_the_originals_logits_through_timm(official, golden, tmp_path, name):
    spec, _ = golden(name)
    report = convert_file(official / f"{name}.pth.tar", spec, tmp_path / "converted")
    model = timm.create_model(f"local-dir:{tmp_path / 'converted'}", pretrained=True).eval()
    expected = load_file(official / f"{name}.io.safetensors")
    with torch.no_grad():
        logits = model(expected["input"].float())
    torch.testing.assert_close(logits, expected["logits"].float(), rtol=1e-4, atol=1e-5)
    assert model.spec.hash == report.spec_hash == Genotype.load(tmp_path / "converted" / "spec.json").hash
    assert model.default_cfg["input_size"] == spec.network.input_size


# ---------------------------------------------------------------------------------------------------- forms of a file


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


def test_views_of_one_storage_are_read_as_they_were(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    stored = {"whole": whole, "turned": whole.t(), "part": whole[1:3, 2:], "none": torch.zeros(0, 3)}
    for zipped in (True, False):
        torch.save(stored, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
        read = read_checkpoint(tmp_path / "file.pth")
        assert all(torch.equal(read[key], value) for key, value in stored.items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_of_the_file_is_kept(golden, tmp_path, dtype):
    spec, state_dict = golden("large_c8")
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_dict.items()}
    torch.save(stored, tmp_path / "file.pth")
    converted = convert(read_checkpoint(tmp_path / "file.pth"), spec)
    assert {value.dtype for value in converted.values()} == {dtype, torch.int64}


def test_missing_num_batches_tracked_counts_as_zero(golden):
    spec, state_dict = golden("large_c8")
    old = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state_dict)
    compared = convert(state_dict, spec)
    for key, value in convert(old, spec).items():
        assert torch.equal(value, torch.tensor(0) if key.endswith("num_batches_tracked") else compared[key])


def test_head_with_more_rows_than_classes_names_the_option(golden):
    spec, state_dict = golden("free_svhn100_c8")
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, changed(spec, num_classes=10))
    remedy = "slice_head=True (--slice-head) keeps the first 10 rows"
    assert raised.value.problems == (
        f"classifier: classifier.weight: expected [10, 128], got [100, 128]; {remedy}",
        f"classifier: classifier.bias: expected [10], got [100]; {remedy}",
    )


def test_sliced_head_gives_the_first_logits(official, golden):
    spec, state_dict = golden("free_svhn100_c8")
    spec = changed(spec, num_classes=10)
    network = compile(spec).double().eval()
    network.load_state_dict(convert(state_dict, spec, slice_head=True))
    expected = load_file(official / "free_svhn100_c8.io.safetensors")
    with torch.no_grad():
        logits = network(expected["input"].double())
    torch.testing.assert_close(logits, expected["logits"][:, :10].double(), rtol=0, atol=1e-9)


def test_head_with_fewer_rows_than_classes_is_refused_even_when_slicing(golden):
    spec, state_dict = golden("large_c8")
    with pytest.raises(CheckpointError, match=r"classifier\.weight: expected \[11, 128\], got \[10, 128\]; classifier"):
        convert(state_dict, changed(spec, num_classes=11), slice_head=True)


# ---------------------------------------------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("cells.3._ops.3.op.op.1.weight", "cell 3, edge 1->3, sep_conv_3x3"),  # code 01
        ("cells.0._ops.13.op.op.6.weight", "cell 0, edge 4->5, sep_conv_3x3"),
        ("cells.0._ops.0.op.conv.op.2.weight", "cell 0, edge 0->2, sep_conv_3x3"),  # code 11
        ("cells.6._ops.3.op.conv_2.weight", "cell 6, edge 1->3, identity"),  # code 10 at stride 2
        ("cells.6._ops.0.op.res.bn.running_var", "cell 6, edge 0->2, identity"),  # code 11 at stride 2
        ("cells.6.preprocess0.op.1.weight", "cell 6, input 0"),
        ("cells.7.preprocess0.conv_1.weight", "cell 7, input 0"),  # behind a reduction
        ("stem.0.weight", "stem"),
        ("classifier.bias", "classifier"),
    ],
)
def test_missing_key_is_named_with_its_place(golden, key, place):
    spec, state_dict = golden("free_c8")
    del state_dict[key]
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, spec)
    assert raised.value.problems == (f"{place}: missing {key}",)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("cells.3._ops.3.op.op.9.weight", "cell 3, edge 1->3, sep_conv_3x3: "),
        ("cells.3._ops.3.op.res.conv_1.weight", "cell 3, edge 1->3, identity: "),
        ("cells.3._ops.14.op.op.1.weight", "cell 3: "),
        ("cells.3.preprocess1.op.3.weight", "cell 3, input 1: "),
        ("cells.20._ops.0.op.op.1.weight", ""),
        ("auxiliary.weight", ""),
    ],
)
def test_left_over_key_is_named_with_its_place(golden, key, place):
    spec, state_dict = golden("free_c8")
    state_dict[key] = torch.zeros(1)
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, spec)
    assert raised.value.problems == (f"{place}left over {key}",)


def test_weights_of_another_code_are_refused_on_that_edge(golden):
    spec, state_dict = golden("large_c8")
    data = spec.model_dump(mode="json", exclude_none=True)
    data["cells"]["cell"]["alpha"][5] = [1, 0]  # was a convolution, 01
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, Genotype.parse(data))
    assert "cell 0, edge 0->4, sep_conv_3x3: left over cells.0._ops.5.op.op.1.weight" in raised.value.problems
    assert all(", edge 0->4, " in problem for problem in raised.value.problems)
    assert str(raised.value).count("\n") == 0
    assert len(raised.value.problems) > 100 > str(raised.value).count("cell ")


def test_wrong_shapes_are_named(golden):
    spec, state_dict = golden("large_c8")
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, changed(spec, channels=16))
    assert "stem: stem.0.weight: expected [48, 3, 3, 3], got [24, 3, 3, 3]" in raised.value.problems


def test_integer_weights_are_named(golden):
    spec, state_dict = golden("large_c8")
    state_dict["stem.0.weight"] = state_dict["stem.0.weight"].long()
    with pytest.raises(CheckpointError, match=r"stem: stem\.0\.weight: expected float32, got int64"):
        convert(state_dict, spec)


def test_operations_that_the_original_does_not_know_are_one_error():
    data = from_codes([["11"] * 14], name="pooled", channels=4, depth=3).model_dump(mode="json", exclude_none=True)
    data["operations"][0] = "max_pool_3x3"
    with pytest.raises(CheckpointError) as raised:
        convert({}, Genotype.parse(data))
    assert len(raised.value.problems) == 14
    assert str(raised.value).startswith(
        "pooled: cells.cell.alpha[0]: expected operations of the original (identity, sep_conv_3x3), got max_pool_3x3; "
    )


@pytest.fixture
def dead(golden):
    """(spec, state dict): node 4 of the last cell feeds nothing, and no edge reads input 0 of that cell."""
    spec, state_dict = golden("free_c8")
    data = spec.model_dump(mode="json", exclude_none=True)
    last = data["cells"]["cell_19"]
    last["concat"] = [2, 3, 5]
    for edge in (0, 2, 5, 9, 13):
        last["alpha"][edge] = [0, 0]
        state_dict = {key: value for key, value in state_dict.items() if not key.startswith(f"cells.19._ops.{edge}.")}
    columns = torch.cat([torch.arange(64), torch.arange(96, 128)])
    state_dict["classifier.weight"] = state_dict["classifier.weight"][:, columns]
    return Genotype.parse(data), state_dict


def test_weights_without_use_in_the_spec_are_dropped(dead):
    spec, state_dict = dead
    assert "cells.19._ops.6.op.op.1.weight" in state_dict  # 1->4
    assert "cells.19.preprocess0.op.1.weight" in state_dict
    converted = convert(state_dict, spec)
    assert converted.keys() == compile(spec).state_dict().keys()
    assert not any(key.startswith(("cells.19.edges.1->4", "cells.19.preprocess.0")) for key in converted)


def test_only_what_the_original_builds_without_use_is_dropped(dead):
    spec, state_dict = dead
    state_dict["cells.19._ops.6.op.res.conv_1.weight"] = torch.zeros(1)  # stride 1: an identity has no weights
    state_dict["cells.18.preprocess0.op.3.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as raised:
        convert(state_dict, spec)
    assert raised.value.problems == (
        "cell 19, edge 1->4, identity: left over cells.19._ops.6.op.res.conv_1.weight",
        "cell 18, input 0: left over cells.18.preprocess0.op.3.weight",
    )


# ---------------------------------------------------------------------------------------------------- unsafe files


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
    """A pickle written by hand; MARKER stands for the folder that it makes."""
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
def test_persistent_identifier_that_is_no_storage_is_refused(tmp_path, identifier):
    (tmp_path / "file.pth").write_bytes(b"\x80\x02" + identifier + b"Q.")
    with pytest.raises(CheckpointError, match=r"expected .*storage"):
        read_checkpoint(tmp_path / "file.pth")


# ---------------------------------------------------------------------------------------------------- damaged files


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


# ---------------------------------------------------------------------------------------------------- the folder


def test_model_card_says_what_the_weights_are(official, golden, tmp_path):
    spec, _ = golden("large_c8")
    report = convert_file(official / "large_c8.pth.tar", spec, tmp_path / "converted")
    card = (tmp_path / "converted" / "README.md").read_text()
    assert report.source_sha256 == file_sha256(official / "large_c8.pth.tar")
    assert report.file_sha256 == file_sha256(tmp_path / "converted" / "model.safetensors")
    for text in (
        report.source_sha256,
        report.file_sha256,
        report.state_sha256,
        spec.hash,
        spec.name,
        "large_c8.pth.tar",
        "409,346",
    ):
        assert text in card
    assert "No accuracy" in card


def test_folder_is_complete_and_readable_and_nothing_else_is_left(official, golden, tmp_path):
    convert_file(official / "large_c8.pth.tar", golden("large_c8")[0], tmp_path / "converted")
    assert [entry.name for entry in tmp_path.iterdir()] == ["converted"]
    files = {entry.name: entry.stat().st_mode & 0o777 for entry in (tmp_path / "converted").iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert files == dict.fromkeys(["README.md", "config.json", "model.safetensors", "spec.json"], 0o666 & ~umask)


def test_failed_conversion_leaves_nothing(official, golden, tmp_path, monkeypatch):
    spec, _ = golden("large_c8")
    with pytest.raises(CheckpointError, match=r"large_c8\.pth\.tar: stem: stem\.0\.weight: expected \[48, "):
        convert_file(official / "large_c8.pth.tar", changed(spec, channels=16), tmp_path / "converted")

    def full(model, folder, **_):
        (tmp_path / folder / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("robnet_zoo.converters.original.weights.save_for_hf", full)
    with pytest.raises(OSError, match="No space left"):
        convert_file(official / "large_c8.pth.tar", spec, tmp_path / "converted")
    assert list(tmp_path.iterdir()) == []


def test_conversion_draws_no_random_numbers(official, golden, tmp_path):
    before = torch.get_rng_state()
    convert_file(official / "large_c8.pth.tar", golden("large_c8")[0], tmp_path / "converted")
    assert torch.equal(torch.get_rng_state(), before)


def test_folder_with_something_in_it_is_refused(official, golden, tmp_path):
    (tmp_path / "spec.json").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        convert_file(official / "large_c8.pth.tar", golden("large_c8")[0], tmp_path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("spec.json", "mine")]


def test_overwriting_replaces_a_conversion_and_nothing_else(official, golden, tmp_path):
    spec, _ = golden("large_c8")
    folder = tmp_path / "converted"
    folder.mkdir()
    (folder / "spec.json").write_text("of an earlier conversion")
    convert_file(official / "large_c8.pth.tar", spec, folder, overwrite=True)
    assert Genotype.load(folder / "spec.json") == spec
    assert [entry.name for entry in tmp_path.iterdir()] == ["converted"]
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        convert_file(official / "large_c8.pth.tar", spec, folder, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "mine"
