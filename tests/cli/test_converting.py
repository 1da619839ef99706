"""`robnet-zoo export` and `convert`."""

import json

import pytest
import timm

from robnet_zoo.attacks import Fgsm
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.converters.darts import convert_darts
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Genotype
from tests.command import fails, run

TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


def test_export_takes_options_and_data_and_reports(capsys, tmp_path):
    path = tmp_path / "m.onnx"
    options = ["--precision", "int8", "--data", "digits", "--calibration", "64", "--opset", "19", "--batch", "2"]
    document = run(capsys, "export", "robnet_micro.digits", "-o", str(path), *options, "--json")
    report = json.loads(document)
    assert (report["precision"], report["opset"], report["batch"]) == ("int8", 19, 2)
    assert report["bytes"] == path.stat().st_size
    protocol = tmp_path / "short.json"
    Protocol(name="short", attacks=(Fgsm(),), n=4, batch=4).save(protocol)
    measured = ("--data", "digits", "--protocol", protocol, "--json")
    result = json.loads(run(capsys, "benchmark", "--target", path, *measured))
    assert (result["model"]["kind"], result["model"]["precision"]) == ("onnx", "int8")
    assert result["model"]["exported_from"] == report["state_sha256"]
    line = run(capsys, "export", "robnet_micro.digits", "-o", str(path), "--no-prove", "--input-size", "64", "32")
    assert "not compared with torch" in line


def test_codes_become_a_spec_and_again_the_same_codes(capsys, official, tmp_path):
    run(capsys, "convert", "codes", str(official / "free_c8.json"), "-o", str(tmp_path / "spec.json"))
    assert Genotype.load(tmp_path / "spec.json").network.channels == 8
    again = json.loads(run(capsys, "convert", "codes", str(tmp_path / "spec.json")))
    assert again["codes"] == json.loads((official / "free_c8.json").read_text())["codes"]


def test_an_original_checkpoint_becomes_a_folder_that_timm_loads(capsys, official, tmp_path):
    checkpoint, spec, folder = official / "large_c8.pth.tar", tmp_path / "spec.json", tmp_path / "d"
    run(capsys, "convert", "codes", official / "large_c8.json", "-o", spec)
    printed = run(capsys, "convert", "original", checkpoint, "--spec", spec, "-o", folder)
    assert printed == f'{folder}: large_c8, 409,346 parameters, 10 classes, from "large_c8.pth.tar"\n'
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 10
    report = json.loads(
        run(capsys, "convert", "original", checkpoint, "--spec", spec, "-o", folder, "--overwrite", "--json")
    )
    assert report["spec_hash"] == Genotype.load(folder / "spec.json").hash


def test_a_genotype_of_darts_becomes_a_spec_in_a_file_or_on_standard_output(capsys, tmp_path):
    told = run(capsys, "convert", "darts", "darts_v2", "--num-classes", "100", "-o", tmp_path / "spec.json")
    assert told.startswith(f"{tmp_path / 'spec.json'}: 36 channels, 20 cells, 3x32x32, 3,")
    assert parameters(Genotype.load(tmp_path / "spec.json")) == 3_349_342 + 90 * 577
    printed = run(capsys, "convert", "darts", TEXT, "--channels", "8", "--depth", "4", "--name", "mine")
    assert Genotype.loads(printed) == convert_darts(TEXT, channels=8, depth=4, name="mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["original", "nowhere.pth", "--spec", "robnet_free", "-o", "x"], "nowhere.pth: expected a checkpoint file"),
        (["original", "nowhere.pth", "--spec", "robnet_fre", "-o", "x"], "did you mean 'robnet_free'?"),
        (["codes", "nowhere.json"], "nowhere.json: cannot be read"),
        (["darts", "pdart"], "\"pdart\": neither a bundled genotype nor a file nor its text, did you mean 'pdarts'?"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_was_expected(capsys, arguments, message):
    assert message in fails(capsys, "convert", *arguments)


def test_int8_without_data_is_refused_before_a_model_is_built(capsys, monkeypatch):
    monkeypatch.setattr("robnet_zoo.zoo.registry.load_model", None)
    line = fails(capsys, "export", "robnet_micro.digits", "-o", "m.onnx", "--precision", "int8")
    assert line.startswith("robnet-zoo: --data: expected real images, as int8 takes the ranges")
