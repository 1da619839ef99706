"""The sign of life while torch is loaded."""

from __future__ import annotations

import gc
import sys

import pytest

from robnet_zoo.cli.starting import starting


@pytest.fixture
def terminal(monkeypatch, capsys) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)


@pytest.mark.usefixtures("terminal")
def test_loading_torch_is_shown_while_it_lasts_without_a_line_of_its_own(monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with starting():
        shown = capsys.readouterr().err
        assert shown == "robnet-zoo: loading torch ...\r"
    assert capsys.readouterr().err == " " * (len(shown) - 1) + "\r"


@pytest.mark.usefixtures("terminal")
def test_it_ends_with_a_mistake_too(monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(SystemExit), starting():
        sys.exit(2)
    assert capsys.readouterr().err.endswith(" \r")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_where_torch_is_there_or_another_process_shows_it_nothing_is_shown(monkeypatch, capsys, rank: str) -> None:
    monkeypatch.setenv("RANK", rank)
    if rank == "1":
        monkeypatch.delitem(sys.modules, "torch")
    with starting():
        pass
    assert capsys.readouterr().err == ""


def test_a_file_or_a_pipe_holds_mistakes_alone(monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with starting():
        pass
    assert capsys.readouterr().err == ""


def test_garbage_is_collected_as_before_after_the_start_and_after_a_mistake_too() -> None:
    thresholds = gc.get_threshold()
    with starting():
        assert gc.get_threshold()[0] > thresholds[0] > 0
    assert gc.get_threshold() == thresholds
    with pytest.raises(SystemExit), starting():
        sys.exit(2)
    assert gc.get_threshold() == thresholds
