"""The line that says what is being done."""

from __future__ import annotations

import sys
import time

import pytest

from robnet_zoo.core import waiting
from robnet_zoo.core.waiting import SignOfLife


@pytest.fixture
def hurried(monkeypatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)
    monkeypatch.setattr(waiting, "LOOK", 0.01)


@pytest.mark.usefixtures("hurried")
def test_a_pipe_gets_a_plain_line_for_each_step_that_takes_long(capsys) -> None:
    with SignOfLife("calibrating") as sign:
        time.sleep(0.15)
        sign.says("comparing")
        time.sleep(0.15)
    assert capsys.readouterr().err == "robnet-zoo: calibrating ...\nrobnet-zoo: comparing ...\n"


def test_a_pipe_gets_nothing_for_short_steps(monkeypatch, capsys) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 60.0)
    with SignOfLife("calibrating") as sign:
        sign.says("comparing")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("hurried")
def test_a_long_step_is_named_again(monkeypatch, capsys) -> None:
    monkeypatch.setattr(waiting, "REPEAT", 0.01)
    with SignOfLife("calibrating"):
        time.sleep(0.2)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "robnet-zoo: calibrating ..."
    assert others[0].startswith("robnet-zoo: calibrating ...")


@pytest.mark.usefixtures("hurried")
def test_a_terminal_shows_a_step_at_once_and_is_blank_at_the_end(monkeypatch, capsys) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    with SignOfLife("calibrating") as sign:
        assert capsys.readouterr().err == "robnet-zoo: calibrating ...\r"
        sign.says("done")
        assert capsys.readouterr().err == "robnet-zoo: done ...       \r"
    assert capsys.readouterr().err == " " * len("robnet-zoo: calibrating ...") + "\r"


@pytest.mark.usefixtures("hurried")
def test_it_is_silent_where_nothing_is_to_be_shown(capsys) -> None:
    with SignOfLife("calibrating", shown=False):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
