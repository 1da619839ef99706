"""`robnet-zoo doctor`."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from robnet_zoo import cli
from robnet_zoo.cli import doctor
from robnet_zoo.errors import DocumentError
from robnet_zoo.zoo import weights
from tests.command import run


def test_a_sound_installation_has_no_problems_and_says_what_it_is(capsys) -> None:
    lines = run(capsys, "doctor").splitlines()
    assert lines[-1] == "no problems"
    facts = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines[:-1]}
    assert facts["torch"] == version("torch")
    assert facts["bundled weights"] == "5 of 5 are undamaged"
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
    monkeypatch.setenv("OMP_NUM_THREADS", "many")


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
        "OMP_NUM_THREADS: expected a number of threads, 1 or more, got 'many'",
        "robnet_micro.digits.safetensors: expected sha256",
        "robnet_free.fast_cifar10.safetensors: expected the weights",
    ):
        assert any(words in problem for problem in problems), words


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "infinity")])
def test_threads_that_never_rest_are_told(name: str, value: str, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv(name, value)
    assert f"{name}={value}; threads that wait hold their core" in doctor._waiting()


@pytest.mark.parametrize("count", ["1", " 2 ", "4,2"])
def test_numbers_of_threads_are_no_problem(count: str, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    assert doctor._thread_problems() == []


def test_what_cannot_be_looked_at_is_a_problem_and_the_rest_is_told(capsys, monkeypatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    def damaged() -> None:
        raise DocumentError(["not JSON"], source="manifest.json")

    monkeypatch.setattr(doctor.os, "getcwd", gone)
    monkeypatch.setattr(weights, "manifest", damaged)
    with pytest.raises(SystemExit) as exit:
        cli.main(["doctor", "--json"])
    assert exit.value.code == 2
    diagnosis = json.loads(capsys.readouterr().out)
    assert "torch" in diagnosis["facts"]
    assert diagnosis["problems"] == [
        "disk here: expected a folder, got [Errno 2] No such file or directory",
        "manifest.json: not JSON; reinstall",
    ]
