"""`robnet-zoo doctor`."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from robnet_zoo import cli
from robnet_zoo.cli import doctor
from robnet_zoo.zoo import weights
from tests.command import run


def test_a_sound_installation_has_no_problems_and_says_what_it_is(capsys) -> None:
    lines = run(capsys, "doctor").splitlines()
    assert lines[-1] == "no problems"
    facts = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines[:-1]}
    assert facts["torch"] == version("torch")
    assert facts["bundled weights"] == "3 of 3 are undamaged"
    assert facts["disk here"].endswith(" GB free")
    assert {"processor", "bfloat16", "gpus", "openmp", "onnx runtime on"} <= facts.keys()


def test_json_alone_is_on_stdout(capsys) -> None:
    assert json.loads(run(capsys, "doctor", "--json"))["problems"] == []


@pytest.fixture
def broken(monkeypatch, tmp_path) -> None:
    """Break what can be broken: a file of weights, a package, the disk, ONNX Runtime."""
    for file in weights.FOLDER.glob("*.*"):
        if not file.name.startswith("robnet_free"):
            shutil.copy(file, tmp_path)
    (tmp_path / "robnet_micro.digits.safetensors").write_bytes(b"x")
    check = weights.check
    monkeypatch.setattr(weights, "check", lambda entry, spec: check(entry, spec, folder=tmp_path))
    monkeypatch.setattr(doctor, "MODULES", ("torch", "no_such_package"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5e8))
    both = [SimpleNamespace(metadata={"Name": name}) for name in ("onnxruntime", "ONNXRuntime-GPU", None)]
    monkeypatch.setattr(doctor, "distributions", lambda: both)


@pytest.mark.usefixtures("broken")
def test_what_is_wrong_is_named_and_ends_with_exit_code_2(capsys) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["doctor"])
    assert exit.value.code == 2
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PROBLEM: ")]
    for words in (
        "no_such_package: expected a package that can be imported, got ModuleNotFoundError",
        "expected one of onnxruntime and onnxruntime-gpu, got both",
        "expected at least 1 GB free, got 0.5",
        "robnet_micro.digits.safetensors: expected sha256",
        "robnet_free.fast_cifar10.safetensors: expected the weights",
    ):
        assert any(words in problem for problem in problems), words
