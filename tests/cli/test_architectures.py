"""The command: what it prints, what it writes, and that a mistake is one line and exit code 2."""

import json
import subprocess
import sys

import pytest

from robnet_zoo import cli
from robnet_zoo.benchmarks.protocol import PROTOCOLS
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.training import Estimate
from robnet_zoo.zoo.registry import SCHEMA, SPECS, load_spec, spec_names
from tests.command import fails, run


@pytest.fixture
def spec_file(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    return tmp_path / "tiny.json"


def test_flags_of_a_part_that_may_be_none_leave_its_other_fields_as_they_are(tiny, tmp_path, spec_file, capsys):
    guarded = {"name": "guarded", "epochs": 1, "batch": 32, "attack": {"steps": 1}, "validation": 16}
    guarded["guard"] = {"updates": 7, "images": 12, "share": 0.25}
    (tmp_path / "guarded.json").write_text(json.dumps(guarded))
    out = tmp_path / "run"
    common = ["--data", "digits", "--output", str(out), "--recipe", str(tmp_path / "guarded.json")]
    run(capsys, "train", str(spec_file), *common, "--guard.images", "8")
    guard = json.loads((out / "run.json").read_text())["recipe"]["guard"]
    assert guard == {"updates": 7, "images": 8, "steps": 10, "share": 0.25}


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--stages", "[]"], []),
        (["--stages", '[{"size": 4, "epochs": 1}]'], [4]),
        (["--stages", '{"size": 4, "epochs": 1}', "--stages", '{"size": 8, "epochs": 1}'], [4, 8]),
    ],
)
def test_a_list_is_overridden_item_by_item_or_whole(tiny, tmp_path, spec_file, capsys, flags, sizes):
    staged = {"name": "staged", "epochs": 2, "batch": 512, "attack": {"steps": 0}, "validation": 0}
    (tmp_path / "staged.json").write_text(json.dumps(staged | {"stages": [{"size": 8, "epochs": 2}]}))
    out = tmp_path / "run"
    common = ["--data", "digits", "--output", str(out), "--recipe", str(tmp_path / "staged.json")]
    run(capsys, "train", str(spec_file), *common, *flags)
    stages = json.loads((out / "run.json").read_text())["recipe"]["stages"]
    assert [stage["size"] for stage in stages] == sizes


def test_list_names_every_spec_with_its_exact_size(capsys):
    rows = json.loads(run(capsys, "list", "--json"))
    assert [row["name"] for row in rows] == spec_names()
    assert {row["name"]: row["parameters"] for row in rows}["robnet_free"] == 5_439_790
    assert "5,439,790" in run(capsys, "list")


def test_show_gives_the_figures_of_a_spec(capsys):
    summary = json.loads(run(capsys, "show", "robnet_large", "--json"))
    assert (summary["parameters"], summary["budget"]) == (6_842_710, "large")
    assert summary["hash"] == load_spec("robnet_large").hash
    assert "20 cell" in run(capsys, "show", "robnet_large")


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_show_draws_a_cell(capsys, tmp_path, suffix, magic):
    picture = tmp_path / f"cell{suffix}"
    run(capsys, "show", "robnet_free", "--draw", str(picture), "--cell", "cell_3")
    assert picture.read_bytes().startswith(magic)


def test_validate_accepts_every_bundled_spec(capsys):
    files = [str(SPECS.path(name)) for name in spec_names()]
    assert run(capsys, "validate", *files).count(": valid, hash ") == len(files)


def test_validate_names_every_mistake_of_every_file(capsys, spec_file, tmp_path):
    broken = json.loads(spec_file.read_text())
    broken["cells"]["cell"]["alpha"][4][1] = 2
    broken["layuot"] = broken.pop("layout")
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(SystemExit) as exit:
        cli.main(["validate", str(spec_file), str(tmp_path / "broken.json"), "--json"])
    captured = capsys.readouterr()
    assert exit.value.code == 2
    good, bad = json.loads(captured.out)
    assert good["problems"] == []
    assert any(problem == "cells.cell.alpha[4][1]: expected 0 or 1, got 2" for problem in bad["problems"])
    assert any("layuot" in problem and "layout" in problem for problem in bad["problems"])
    assert "broken.json: cells.cell.alpha[4][1]: expected 0 or 1, got 2\n" in captured.err


def test_the_committed_schema_is_current(capsys):
    assert json.loads(run(capsys, "schema")) == json.loads(SCHEMA.read_text()), "robnet-zoo schema > the file"


def test_the_schema_accepts_the_bundled_specs_and_refuses_a_broken_one():
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    for name in spec_names():
        document = json.loads(SPECS.path(name).read_text())
        assert not list(validator.iter_errors(document)), name
    document["network"]["channels"] = "many"
    assert list(validator.iter_errors(document))


def test_train_then_benchmark_then_export(capsys, spec_file, tmp_path):
    out = tmp_path / "run"
    common = ["--data", "digits", "--output", str(out), "--recipe", "micro_digits"]
    run(capsys, "train", str(spec_file), *common, "--epochs", "1", "--batch", "400", "--attack.steps", "1")
    assert json.loads((out / "run.json").read_text())["recipe"]["attack"]["steps"] == 1
    weights = ["--weights", str(out / "model.safetensors")]
    document = run(capsys, "benchmark", str(spec_file), *weights, "--data", "digits", "-n", "30", "--json")
    result = json.loads(document)
    assert result["data"]["n"] == 30
    assert [m["attack"] for m in result["measurements"]] == ["clean", "fgsm", "pgd10", "pgd10_margin"]
    assert "logits within" in run(capsys, "export", str(spec_file), *weights, "-o", str(tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").exists()


def test_checkpoints_are_written_and_kept_as_flags_say_and_a_run_is_gone_on_with(capsys, spec_file, tmp_path):
    common = ["train", str(spec_file), "--data", "digits", "--recipe", "micro_digits", "--epochs", "2"]
    common += ["--batch", "200", "--attack.steps", "0", "--validation", "0", "--output", str(tmp_path / "run")]
    assert "expected the folder of a run to go on with" in fails(capsys, *common, "--resume")
    run(capsys, *common, "--checkpoint-updates", "2", "--checkpoint-seconds", "1000", "--checkpoints", "4")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == [f"{updates:010}.pt" for updates in (5, 6, 8, 10)]  # 5 an epoch
    assert run(capsys, *common, "--resume") == f"{tmp_path / 'run' / 'model.safetensors'}\n"


def test_estimate_prints_and_writes_how_long_training_takes(capsys, spec_file, tmp_path):
    out = tmp_path / "estimate.json"
    common = ["--data", "digits", "--recipe", "micro_digits", "--batch", "400", "--attack.steps", "1"]
    table = run(capsys, "estimate", str(spec_file), *common, "--updates", "1", "-o", str(out))
    found = Estimate.load(out)
    assert (found.recipe.batch, found.recipe.attack.steps) == (400, 1)
    assert table.splitlines()[-1] == f"| together | {found.recipe.epochs} | | {found.hours:.1f} |"
    again = Estimate.parse(json.loads(run(capsys, "estimate", str(spec_file), *common, "--updates", "1", "--json")))
    assert again.recipe == found.recipe


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


def test_transfer_and_square_reach_an_exported_file(capsys, tmp_path):
    path = str(tmp_path / "m.onnx")
    run(capsys, "export", "robnet_micro.digits", "-o", path)
    common = ["--data", "digits", "-n", "12", "--eps", "32/255", "--batch", "12", "--json"]
    protocol = json.loads(PROTOCOLS.path("square").read_text())
    protocol["attacks"][0]["queries"] = 30
    (tmp_path / "square.json").write_text(json.dumps(protocol))
    square = json.loads(run(capsys, "benchmark", path, "--protocol", str(tmp_path / "square.json"), *common))
    assert [one["attack"] for one in square["measurements"]] == ["clean", "square"]
    source = ["--protocol", "table2", "--source", "robnet_micro.digits"]
    transfer = json.loads(run(capsys, "benchmark", path, *source, *common))
    assert transfer["source"]["kind"] == "torch"
    assert transfer["model"]["kind"] == "onnx"


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["show", "robnet_fre"], "did you mean 'robnet_free'?"),
        (["show", "robnet_free", "--cell", "cell_99", "--draw", "x.svg"], "unknown cell 'cell_99'"),
        (["show", "robnet_free", "--draw", "x.bmp"], "expected a file that ends in .svg or .png"),
        (["validate"], "expected one or more files"),
        (["benchmark", "robnet_large", "--data", "digits"], "no weights of robnet_large are bundled"),
        (["benchmark", "resnet999", "--data", "digits"], "neither an ONNX file, nor a folder"),
        (["benchmark", "robnet_micro.digits", "--data", "nowhere.npz"], "nowhere.npz: expected"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "-n", "0"], "n: expected at least 1, got 0"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--eps", "0.03"], "eps: expected"),
        (
            ["benchmark", "robnet_micro.digits", "robnet_micro.digits", "--data", "digits"],
            "each once, got robnet_micro",
        ),
        (["benchmark", "a", "b", "--data", "digits", "--mean", "0.5", "--std", "1"], "expected one model with them"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--shard", "3/3"], "INDEX from 0 to COUNT - 1"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--protocol", "table8", "--eps", "16"], "at most 1"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--protocol", "table2"], "the model to attack"),
        (["benchmark", "robnet_micro.nope", "--data", "digits"], "nope"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--recipe", "micro_cifar"], "did you mean"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--epochs", "0"], "epochs: expected"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--epochs", "many"], "many"),
        (
            ["train", "robnet_micro", "--data", "digits", "--output", "x", "--stages", '{"size": 16}'],
            "--stages[0].epochs: missing",
        ),
        (
            ["train", "robnet_micro", "--data", "digits", "--output", "x", "--schedule.milestones", "[1, x]"],
            "--schedule.milestones[0]: expected",
        ),
        (["estimate", "robnet_micro", "--data", "digits", "--updates", "0"], "--updates: expected at least 1, got 0"),
        (["export", "robnet_micro.digits"], "output"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--opset", "12"], "opset: expected at least 18, got 12"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--precision", "int8"], "expected real images"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--precision", "int4"], "int4"),
        (["convert", "original", "nowhere.pth", "--spec", "robnet_free", "-o", "x"], "nowhere.pth"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_was_expected(capsys, arguments, message):
    assert message in fails(capsys, *arguments)


def test_the_installed_command_runs_and_tells_its_version():
    found = subprocess.run([sys.executable, "-m", "robnet_zoo.cli", "--version"], capture_output=True, text=True)
    assert found.returncode == 0
    from robnet_zoo import __version__

    assert __version__ in found.stdout
