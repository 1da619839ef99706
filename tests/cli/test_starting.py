"""The sign of life while torch is loaded."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from robnet_zoo.cli.starting import starting
from robnet_zoo.core import waiting
from tests.command import fails


@pytest.fixture
def terminal(monkeypatch, capsys) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("shown", [True, False])
def test_a_terminal_shows_that_torch_is_loaded_without_a_line_of_its_own(monkeypatch, capsys, shown: bool) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with starting(shown=shown):
        line = capsys.readouterr().err
        assert line == "robnet-zoo: loading torch ...\r"
    assert capsys.readouterr().err == " " * (len(line) - 1) + "\r"


@pytest.mark.usefixtures("terminal")
def test_it_ends_with_a_mistake_too(monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(SystemExit), starting():
        sys.exit(2)
    assert capsys.readouterr().err.endswith(" \r")


@pytest.mark.usefixtures("terminal")
def test_where_another_process_shows_it_nothing_is_shown(monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", "1")
    with starting():
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("shown", "lines"), [(True, ["robnet-zoo: reading the input ..."]), (False, [])])
def test_a_pipe_gets_a_line_for_what_takes_long_unless_the_command_is_quiet(monkeypatch, capsys, shown, lines) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    with starting(shown=shown) as sign:
        sign._over.wait(2 * waiting.LOOK)
    assert capsys.readouterr().err.splitlines() == lines


def test_garbage_is_collected_as_before_after_the_start_and_after_a_mistake_too() -> None:
    thresholds = gc.get_threshold()
    with starting():
        assert gc.get_threshold()[0] > thresholds[0] > 0
    assert gc.get_threshold() == thresholds
    with pytest.raises(SystemExit), starting():
        sys.exit(2)
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "robnet_micro", "--data", "nope.npz", "-o", "runs"], "nope.npz: expected an .npz"),
        (["train", "nope.json", "--data", "digits", "-o", "runs"], "nope.json: cannot be read"),
        (["train", "robnet_micro", "--data", "digits", "-o", __file__], "expected a folder for the run, got a file"),
        (["estimate", "robnet_micro", "--data", "nope.npz"], "nope.npz: expected an .npz"),
        (["benchmark", "robnet_micro.digits", "--data", "nope.npz"], "nope.npz: expected an .npz"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "-o", "/"], "expected a file for the results"),
        (["compare", "a.onnx", "b.onnx", "--data", "nope.npz"], "nope.npz: expected an .npz"),
        (["export", "robnet_micro.digits", "-o", "m.onnx", "--data", "nope.npz"], "nope.npz: expected an .npz"),
        (["export", "robnet_micro.digits", "-o", "/"], "--output: /: expected a file to write, got a folder"),
        (["search", "run", "--config", "small", "--data", "nope.npz", "-o", "s"], "nope.npz: expected an .npz"),
    ],
)
def test_wrong_names_and_paths_are_refused_before_anything_is_loaded(capsys, monkeypatch, words, message) -> None:
    for module in ("architectures", "benchmark", "compare", "converting", "search", "training"):
        monkeypatch.setattr(f"robnet_zoo.cli.{module}.starting", None)
    assert message in fails(capsys, *words)


def test_what_is_refused_so_needs_no_torch() -> None:
    words = ["train", "robnet_micro", "--data", "nope.npz", "-o", "runs"]
    command = [sys.executable, "-X", "importtime", "-m", "robnet_zoo", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "robnet_zoo.training.claim" in modules
    assert not {"torch", "timm"} & modules
