"""Converted checkpoints compute what the original computes, and whatever does not fit is named."""

import os

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from robnet_zoo import compile
from robnet_zoo.converters.original.codes import from_codes
from robnet_zoo.converters.original.unpickling import read_checkpoint
from robnet_zoo.converters.original.weights import convert_checkpoint, convert_state_dict, unwrapped
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import CheckpointError, OutputExistsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.zoo.weights import state_sha256

GOLDENS = ["free_c8", "free_svhn100_c8", "large_c8", "large_imagenet_c8", "msrobnet_1560_c8"]


def changed(spec, **network):
    data = spec.model_dump(mode="json", exclude_none=True)
    data["network"] |= network
    return Genotype.parse(data)


@pytest.mark.parametrize("name", GOLDENS)
def test_converted_weights_give_the_originals_logits_and_input_gradients(official, golden, name):
    spec, state_dict = golden(name)
    network = compile(spec).double().eval()
    network.load_state_dict(convert_state_dict(state_dict, spec))
    expected = load_file(official / f"{name}.io.safetensors")
    images = expected["input"].double().requires_grad_()
    logits = network(images)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, expected["label"]), images)
    torch.testing.assert_close(logits, expected["logits"].double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, expected["input_grad"].double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["free_c8", "large_imagenet_c8"])
def test_folder_gives_the_originals_logits_through_timm(official, golden, tmp_path, name):
    spec, _ = golden(name)
    report = convert_checkpoint(official / f"{name}.pth.tar", spec=spec, output=tmp_path / "converted")
    model = timm.create_model(f"local-dir:{tmp_path / 'converted'}", pretrained=True).eval()
    expected = load_file(official / f"{name}.io.safetensors")
    with torch.no_grad():
        logits = model(expected["input"].float())
    torch.testing.assert_close(logits, expected["logits"].float(), rtol=1e-4, atol=1e-5)
    assert model.spec.hash == report.spec_hash == Genotype.load(tmp_path / "converted" / "spec.json").hash
    assert model.default_cfg["input_size"] == spec.network.input_size


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_of_the_file_is_kept(golden, tmp_path, dtype):
    spec, state_dict = golden("large_c8")
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_dict.items()}
    torch.save(stored, tmp_path / "file.pth")
    converted = convert_state_dict(read_checkpoint(tmp_path / "file.pth"), spec)
    assert {value.dtype for value in converted.values()} == {dtype, torch.int64}


def test_missing_num_batches_tracked_counts_as_zero(golden):
    spec, state_dict = golden("large_c8")
    old = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state_dict)
    compared = convert_state_dict(state_dict, spec)
    for key, value in convert_state_dict(old, spec).items():
        assert torch.equal(value, torch.tensor(0) if key.endswith("num_batches_tracked") else compared[key])


NAMES = ("stem.0.weight", "cells.0._ops.3.op.op.1.weight", "cells.0.preprocess0.op.1.weight", "classifier.bias")


@pytest.mark.parametrize(
    "prefix", ["", "_orig_mod.", "module.module.", "model.", "net.", "module._orig_mod.model.net."]
)
def test_names_of_wrapped_networks_are_unwrapped(prefix):
    weights = {prefix + name: torch.tensor(index) for index, name in enumerate(NAMES)}
    assert unwrapped(weights) == dict(zip(NAMES, weights.values(), strict=True))


def test_names_of_wrapped_parts_are_unwrapped():
    names = [name.replace("cells.", "cells.module.").replace("_ops.", "_ops._orig_mod.") for name in NAMES]
    assert tuple(unwrapped(dict.fromkeys(names))) == NAMES


def test_what_stands_beside_a_wrapped_network_keeps_its_name():
    wrapped = dict.fromkeys([f"model.{name}" for name in NAMES] + ["normalize.mean", "aux.classifier.weight"])
    assert list(unwrapped(wrapped)) == [*NAMES, "normalize.mean", "aux.classifier.weight"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ("ema.{}", "expected one network, got several: cells, ema.cells"),
        ("module.{}", r"expected every weight once, got stem\.0\.weight twice"),
    ],
)
def test_two_networks_in_one_file_are_refused(others, message):
    with pytest.raises(CheckpointError, match=message):
        unwrapped(dict.fromkeys([*NAMES, *map(others.format, NAMES)]))


def test_a_wrapped_network_under_another_key_is_converted(golden, tmp_path):
    spec, state_dict = golden("large_c8")
    wrapped = {f"_orig_mod.net.{key}": value for key, value in state_dict.items()}
    torch.save({"model": wrapped, "epoch": 3}, tmp_path / "file.pth")
    report = convert_checkpoint(tmp_path / "file.pth", spec=spec, output=tmp_path / "converted")
    assert report.state_sha256 == state_sha256(convert_state_dict(state_dict, spec))


def test_where_nothing_fits_the_names_of_the_file_are_listed(golden):
    spec, _ = golden("large_c8")
    resnet = timm.create_model("resnet18").state_dict()
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(resnet, spec)
    listed = ", ".join(list(resnet)[:8])
    expected = "expected weights of the original, such as stem.0.weight, got"
    assert str(raised.value) == f"{expected} {listed} and {len(resnet) - 8} more"


def test_head_with_more_rows_than_classes_names_the_option(golden):
    spec, state_dict = golden("free_svhn100_c8")
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, changed(spec, num_classes=10))
    remedy = "slice_head=True (--slice-head) keeps the first 10 rows"
    assert raised.value.problems == (
        f"classifier: classifier.weight: expected [10, 128], got [100, 128]; {remedy}",
        f"classifier: classifier.bias: expected [10], got [100]; {remedy}",
    )


def test_sliced_head_gives_the_first_logits(official, golden):
    spec, state_dict = golden("free_svhn100_c8")
    spec = changed(spec, num_classes=10)
    network = compile(spec).double().eval()
    network.load_state_dict(convert_state_dict(state_dict, spec, slice_head=True))
    expected = load_file(official / "free_svhn100_c8.io.safetensors")
    with torch.no_grad():
        logits = network(expected["input"].double())
    torch.testing.assert_close(logits, expected["logits"][:, :10].double(), rtol=0, atol=1e-9)


def test_head_with_fewer_rows_than_classes_is_refused_even_when_slicing(golden):
    spec, state_dict = golden("large_c8")
    with pytest.raises(CheckpointError, match=r"classifier\.weight: expected \[11, 128\], got \[10, 128\]; classifier"):
        convert_state_dict(state_dict, changed(spec, num_classes=11), slice_head=True)


# Strictness


@pytest.mark.parametrize(
    ("key", "location"),
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
def test_missing_key_is_named_with_its_location(golden, key, location):
    spec, state_dict = golden("free_c8")
    del state_dict[key]
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, spec)
    assert raised.value.problems == (f"{location}: missing {key}",)


@pytest.mark.parametrize(
    ("key", "location"),
    [
        ("cells.3._ops.3.op.op.9.weight", "cell 3, edge 1->3, sep_conv_3x3: "),
        ("cells.3._ops.3.op.res.conv_1.weight", "cell 3, edge 1->3, identity: "),
        ("cells.3._ops.14.op.op.1.weight", "cell 3: "),
        ("cells.3.preprocess1.op.3.weight", "cell 3, input 1: "),
        ("cells.20._ops.0.op.op.1.weight", ""),
        ("auxiliary.weight", ""),
    ],
)
def test_left_over_key_is_named_with_its_location(golden, key, location):
    spec, state_dict = golden("free_c8")
    state_dict[key] = torch.zeros(1)
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, spec)
    assert raised.value.problems == (f"{location}left over {key}",)


def test_weights_of_another_code_are_refused_on_that_edge(golden):
    spec, state_dict = golden("large_c8")
    data = spec.model_dump(mode="json", exclude_none=True)
    data["cells"]["cell"]["alpha"][5] = [1, 0]  # was a convolution, 01
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, Genotype.parse(data))
    assert "cell 0, edge 0->4, sep_conv_3x3: left over cells.0._ops.5.op.op.1.weight" in raised.value.problems
    assert all(", edge 0->4, " in problem for problem in raised.value.problems)
    assert str(raised.value).count("\n") == 0
    assert len(raised.value.problems) > 100 > str(raised.value).count("cell ")


def test_wrong_shapes_are_named(golden):
    spec, state_dict = golden("large_c8")
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, changed(spec, channels=16))
    assert "stem: stem.0.weight: expected [48, 3, 3, 3], got [24, 3, 3, 3]" in raised.value.problems


def test_integer_weights_are_named(golden):
    spec, state_dict = golden("large_c8")
    state_dict["stem.0.weight"] = state_dict["stem.0.weight"].long()
    with pytest.raises(CheckpointError, match=r"stem: stem\.0\.weight: expected float32, got int64"):
        convert_state_dict(state_dict, spec)


def test_operations_that_the_original_does_not_know_are_one_error():
    data = from_codes([["11"] * 14], name="pooled", channels=4, depth=3).model_dump(mode="json", exclude_none=True)
    data["operations"][0] = "max_pool_3x3"
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict({}, Genotype.parse(data))
    assert len(raised.value.problems) == 14
    assert str(raised.value).startswith(
        "pooled: cells.cell.alpha[0]: expected operations of the original (identity, sep_conv_3x3), got max_pool_3x3; "
    )


@pytest.fixture
def dead(golden):
    """Return (spec, state dict): node 4 of the last cell feeds nothing, and no edge reads input 0 of that cell."""
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
    converted = convert_state_dict(state_dict, spec)
    assert converted.keys() == compile(spec).state_dict().keys()
    assert not any(key.startswith(("cells.19.edges.1->4", "cells.19.preprocess.0")) for key in converted)


def test_only_what_the_original_builds_without_use_is_dropped(dead):
    spec, state_dict = dead
    state_dict["cells.19._ops.6.op.res.conv_1.weight"] = torch.zeros(1)  # stride 1: an identity has no weights
    state_dict["cells.18.preprocess0.op.3.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as raised:
        convert_state_dict(state_dict, spec)
    assert raised.value.problems == (
        "cell 19, edge 1->4, identity: left over cells.19._ops.6.op.res.conv_1.weight",
        "cell 18, input 0: left over cells.18.preprocess0.op.3.weight",
    )


# The folder


def test_model_card_says_what_the_weights_are(official, golden, tmp_path):
    spec, _ = golden("large_c8")
    report = convert_checkpoint(official / "large_c8.pth.tar", spec=spec, output=tmp_path / "converted")
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
    convert_checkpoint(official / "large_c8.pth.tar", spec=golden("large_c8")[0], output=tmp_path / "converted")
    assert [entry.name for entry in tmp_path.iterdir()] == ["converted"]
    files = {entry.name: entry.stat().st_mode & 0o777 for entry in (tmp_path / "converted").iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert files == dict.fromkeys(["README.md", "config.json", "model.safetensors", "spec.json"], 0o666 & ~umask)


def test_failed_conversion_leaves_nothing(official, golden, tmp_path, monkeypatch):
    spec, _ = golden("large_c8")
    with pytest.raises(CheckpointError, match=r"large_c8\.pth\.tar: stem: stem\.0\.weight: expected \[48, "):
        convert_checkpoint(
            official / "large_c8.pth.tar", spec=changed(spec, channels=16), output=tmp_path / "converted"
        )

    def full(model, folder, **_):
        (tmp_path / folder / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("timm.models.save_for_hf", full)
    with pytest.raises(OSError, match="No space left"):
        convert_checkpoint(official / "large_c8.pth.tar", spec=spec, output=tmp_path / "converted")
    assert list(tmp_path.iterdir()) == []


def test_conversion_draws_no_random_numbers(official, golden, tmp_path):
    before = torch.get_rng_state()
    convert_checkpoint(official / "large_c8.pth.tar", spec=golden("large_c8")[0], output=tmp_path / "converted")
    assert torch.equal(torch.get_rng_state(), before)


def test_folder_with_something_in_it_is_refused(official, golden, tmp_path):
    (tmp_path / "spec.json").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        convert_checkpoint(official / "large_c8.pth.tar", spec=golden("large_c8")[0], output=tmp_path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("spec.json", "mine")]


def test_overwriting_replaces_a_conversion_and_nothing_else(official, golden, tmp_path):
    spec, _ = golden("large_c8")
    folder = tmp_path / "converted"
    folder.mkdir()
    (folder / "spec.json").write_text("of an earlier conversion")
    convert_checkpoint(official / "large_c8.pth.tar", spec=spec, output=folder, overwrite=True)
    assert Genotype.load(folder / "spec.json") == spec
    assert [entry.name for entry in tmp_path.iterdir()] == ["converted"]
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        convert_checkpoint(official / "large_c8.pth.tar", spec=spec, output=folder, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "mine"
