"""`robnet-zoo export` and `convert`."""

import json

from robnet_zoo.genotype.genotype import Genotype
from tests.command import run


def test_export_takes_options_and_data_and_reports(capsys, tmp_path):
    path = tmp_path / "m.onnx"
    options = ["--precision", "int8", "--data", "digits", "--calibration", "64", "--opset", "19", "--batch", "2"]
    document = run(capsys, "export", "robnet_micro.digits", "-o", str(path), *options, "--json")
    report = json.loads(document)
    assert (report["precision"], report["opset"], report["batch"]) == ("int8", 19, 2)
    assert report["bytes"] == path.stat().st_size
    result = json.loads(run(capsys, "benchmark", "--target", str(path), "--data", "digits", "-n", "20", "--json"))
    assert (result["model"]["kind"], result["model"]["precision"]) == ("onnx", "int8")
    assert result["model"]["exported_from"] == report["state_sha256"]
    line = run(capsys, "export", "robnet_micro.digits", "-o", str(path), "--no-prove", "--input-size", "64", "32")
    assert "not compared with torch" in line


def test_codes_become_a_spec_and_again_the_same_codes(capsys, official, tmp_path):
    run(capsys, "convert", "codes", str(official / "free_c8.json"), "-o", str(tmp_path / "spec.json"))
    assert Genotype.load(tmp_path / "spec.json").network.channels == 8
    again = json.loads(run(capsys, "convert", "codes", str(tmp_path / "spec.json")))
    assert again["codes"] == json.loads((official / "free_c8.json").read_text())["codes"]


def test_an_original_checkpoint_becomes_a_folder_that_timm_loads(capsys, official, tiny, tmp_path):
    spec = tmp_path / "spec.json"
    run(capsys, "convert", "codes", str(official / "large_c8.json"), "-o", str(spec))
    run(
        capsys,
        "convert",
        "original",
        str(official / "large_c8.pth.tar"),
        "--spec",
        str(spec),
        "-o",
        str(tmp_path / "d"),
    )
    import timm

    assert timm.create_model(f"local-dir:{tmp_path / 'd'}", pretrained=True).num_classes == 10
