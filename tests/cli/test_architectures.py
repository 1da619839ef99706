"""`robnet-zoo list`, `show`, `validate` and `schema`."""

import json

import pytest

from robnet_zoo import cli
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import SCHEMA, SPECS, load_spec, spec_names
from robnet_zoo.zoo.architecture import TimmArchitecture
from tests.command import fails, run


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


def test_show_lists_many_different_cells_briefly(capsys):
    assert max(map(len, run(capsys, "show", "robnet_free").splitlines())) < 100


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_show_lists_few_cells_in_full_however_long_their_names_are(capsys, tmp_path, depth):
    names = ["a" * 100, "b" * 100, "c" * 100][:depth]
    document = json.loads(load_spec("robnet_micro").dumps())
    (cell, *_) = document["cells"].values()
    document |= {"cells": dict.fromkeys(names, cell), "layout": names}
    document["network"] |= {"depth": depth, "reductions": []}
    (tmp_path / "spec.json").write_text(json.dumps(document))
    assert json.loads(run(capsys, "show", tmp_path / "spec.json", "--json"))["layout"] == ", ".join(names)


def test_show_takes_the_folder_of_a_training_run(capsys, tmp_path):
    load_spec("robnet_micro").save_into(tmp_path)
    expected = run(capsys, "show", "robnet_micro")
    assert run(capsys, "show", str(tmp_path)) == run(capsys, "show", f"local-dir:{tmp_path}") == expected


def test_show_takes_the_run_of_a_model_of_timm(capsys, tmp_path):
    TimmArchitecture(model="resnet18_cifar", num_classes=7, input_size=(3, 16, 16)).save_into(tmp_path)
    summary = json.loads(run(capsys, "show", str(tmp_path), "--json"))
    assert (summary["name"], summary["classes"], summary["input_size"]) == ("resnet18_cifar", 7, "3x16x16")
    assert summary["parameters"] == 11_172_423
    assert "expected a spec" in fails(capsys, "show", str(tmp_path), "--draw", str(tmp_path / "cell.svg"))


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".SVG", b"<?xml")])
def test_show_draws_a_cell_and_says_where(capsys, tmp_path, suffix, magic):
    picture = tmp_path / f"cell{suffix}"
    shown = run(capsys, "show", "robnet_free", "--draw", str(picture), "--cell", "cell_3")
    assert shown.splitlines()[-1] == f"{picture}: cell_3"
    assert picture.read_bytes().startswith(magic)


def test_show_draws_the_whole_network_beside_a_cell(capsys, spec_file, tmp_path):
    cell, network = tmp_path / "cell.svg", tmp_path / "network.svg"
    shown = run(capsys, "show", spec_file, "--draw", cell, "--draw-network", network)
    assert shown.splitlines()[-2:] == [f"{cell}: cell", f"{network}: the whole network"]
    assert network.read_text().count("reads") == 2
    json.loads(run(capsys, "show", spec_file, "--draw-network", network, "--json"))
    assert "--draw-network: expected" in fails(capsys, "show", spec_file, "--draw-network", tmp_path / "x.pdf")


def test_validate_accepts_every_bundled_spec(capsys):
    files = [str(SPECS.path(name)) for name in spec_names()]
    assert run(capsys, "validate", *files).count(": valid, hash ") == len(files)


def test_validate_names_every_mistake_of_every_file(capsys, spec_file, tmp_path):
    broken = json.loads(spec_file.read_text())
    broken["cells"]["cell"]["alpha"][4][1] = 2
    broken["layuot"] = broken.pop("layout")
    broken["operations"][1] = "sep_conv"
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(SystemExit) as exit:
        cli.main(["validate", str(spec_file), str(tmp_path / "broken.json"), "--json"])
    captured = capsys.readouterr()
    assert exit.value.code == 2
    good, bad = json.loads(captured.out)
    assert good["problems"] == []
    assert any(problem == "cells.cell.alpha[4][1]: expected 0 or 1, got 2" for problem in bad["problems"])
    assert any(problem.startswith('operations[1]: unknown operation "sep_conv"') for problem in bad["problems"])
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


def with_denoise(spec: Genotype, **denoise: object) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"denoise": denoise})})


def test_show_says_where_and_how_a_network_is_denoised(capsys, tmp_path) -> None:
    with_denoise(load_spec("robnet_large"), after=[5, 12], form="median").save(tmp_path / "spec.json")
    cli.main(["show", str(tmp_path / "spec.json")])
    assert "median after 5, 12" in capsys.readouterr().out
    cli.main(["show", "robnet_large"])
    assert "denoise" not in capsys.readouterr().out
