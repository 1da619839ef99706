"""Every way of naming a model gives the function that is meant, judged in float32, with gradients where it has any."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import TargetError, WeightsError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import FOLDER, state_sha256
from tests.benchmarks.targets.models import DIGITS, NAME
from tools import committed

WEIGHTS = FOLDER / "robnet_micro.digits.safetensors"


def folder_of_training(path):
    path.mkdir()
    shutil.copy(WEIGHTS, path / "model.safetensors")
    load_spec("robnet_micro").save(path / "spec.json")
    return path


def folder_of_timm(path):
    timm.models.save_for_hf(timm.create_model(DIGITS, pretrained=True), path, safe_serialization=True)
    return path


WAYS = {
    "a timm name": lambda path: ((DIGITS,), {}),
    "a timm name with weights": lambda path: ((NAME,), {"weights": WEIGHTS}),
    "a spec's name": lambda path: (("robnet_micro",), {"weights": WEIGHTS}),
    "a spec's path": lambda path: ((str(folder_of_training(path) / "spec.json"),), {"weights": WEIGHTS}),
    "a folder of training": lambda path: ((str(folder_of_training(path)),), {}),
    "local-dir of training": lambda path: ((f"local-dir:{folder_of_training(path)}",), {}),
    "a folder of timm": lambda path: ((str(folder_of_timm(path)),), {}),
    "local-dir": lambda path: ((f"local-dir:{folder_of_timm(path)}",), {}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_of_naming_our_model_gives_the_same_function(way, digits, digits_logits, tmp_path):
    arguments, options = way(tmp_path / "folder")
    target = load_target(*arguments, **options, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(target.judge(digits[0]), digits_logits, rtol=0, atol=0)
    assert target.identity.state_sha256 == state_sha256(load_model(DIGITS).state_dict())
    assert target.identity.spec_hash == load_spec("robnet_micro").hash
    assert (target.num_classes, target.input_size, target.identity.mean) == (10, (3, 32, 32), None)


def test_hash_of_bundled_weights_is_the_one_in_committed_results():
    for name in (NAME, DIGITS):
        stated = Result.load(committed.ROBUSTNESS / f"{name}.json")
        assert load_target(name, device="cpu").identity.state_sha256 == stated.model.state_sha256


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("robnet_mirco.cifar10", {}, "robnet_mirco.cifar10: neither.*, did you mean 'robnet_micro.cifar10'"),
        ("mine.py:Net", {}, "mine.py:Net: .* got Python, .* in Python: from mine import Net; .*of_module.Net.., name="),
        ("mine.pt", {}, "mine.pt: .* got a file that torch would unpickle, .*: from your_code import your_model; "),
        ("robnet_mirco", {}, "robnet_mirco: neither an ONNX file.*, did you mean 'robnet_micro'"),
        ("robnet_large_v2", {}, "no weights of robnet_large_v2 are bundled: train them"),
        ("nowhere/model.onnx", {}, "nowhere/model.onnx: cannot be read: No such file"),
        ("nowhere/model.ONNX", {}, "nowhere/model.ONNX: cannot be read: No such file"),
        ("", {}, "expected the name of a model or a folder, got an empty text"),
        ("nowhere/model.onnx", {"weights": WEIGHTS}, "an ONNX file brings its own weights"),
        ("nowhere/spec.json", {}, "expected weights for this spec"),
        (
            "robnet_free",
            {"weights": WEIGHTS},
            r"expected weights of a spec with hash \w+ \(robnet_free\), got those of",
        ),
        ("resnet10t", {"weights": WEIGHTS}, "expected weights of resnet10t, got no conv1"),
        ("robnet_micro", {"weights": Path("nowhere.safetensors")}, "nowhere.safetensors: expected a safetensors file"),
        ("resnet18.nope", {}, "timm cannot load it: .*; a safetensors file can be given as weights instead"),
        ("local-dir:nowhere", {}, "timm cannot load it: "),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(name, options, message):
    with pytest.raises(TargetError, match=message) as caught:
        load_target(name, **options, device="cpu")
    assert str(caught.value).isprintable()


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(
        TargetError, match=r"expected a folder with model\.safetensors and spec\.json, model\.json or config\.json"
    ):
        load_target(str(tmp_path))
    load_spec("robnet_micro").save(tmp_path / "spec.json")
    with pytest.raises(TargetError, match=r"model\.safetensors: expected a safetensors file, got: No such file"):
        load_target(str(tmp_path))


def test_result_says_where_the_model_of_a_spec_comes_from():
    assert load_target("robnet_micro.cifar10").provenance == load_spec("robnet_micro").provenance.source
    assert of_module(nn.Flatten(), name="f").provenance is None


def test_a_name_of_a_folder_and_of_weights_is_refused_with_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_training(Path("robnet_micro"))
    ways = r"a folder here \(write ./robnet_micro\) and of weights \(write robnet_micro.cifar10\)"
    with pytest.raises(TargetError, match=ways):
        load_target("robnet_micro")
    with pytest.raises(WeightsError, match=ways):
        load_model("robnet_micro")
    digits_weights = load_model(DIGITS).state_dict()
    assert load_target("./robnet_micro").identity.state_sha256 == state_sha256(digits_weights)
    assert load_target(NAME).identity.name == NAME


def test_a_folder_whose_name_begins_like_a_models_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_training(Path("robnet_micro.second_run"))
    assert load_target("robnet_micro.second_run").identity.name == "robnet_micro.second_run"


def test_a_target_bears_the_name_of_the_weights_that_were_taken(caplog):
    assert load_target("robnet_micro").identity.name == "robnet_micro.cifar10"
    load_model("robnet_micro")
    assert "robnet_micro: took the weights robnet_micro.cifar10" in caplog.text
