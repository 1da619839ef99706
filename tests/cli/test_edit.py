"""`robnet-zoo edit`: what it serves, and how it ends."""

from __future__ import annotations

import sys

import pytest

from robnet_zoo.editor import serving
from tests.command import fails, run


@pytest.fixture
def served(monkeypatch) -> list:
    """Return the desks that were to be served."""
    desks: list = []

    def serve(desk, *, port, ready):
        desks.append((desk, port))
        ready("http://127.0.0.1:1/")
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", serve)
    return desks


def test_the_address_is_printed_and_an_interruption_is_the_usual_end(capsys, served, tmp_path):
    assert run(capsys, "edit", tmp_path / "mine.json", "--port", "1234") == "http://127.0.0.1:1/  (Ctrl-C ends it)\n"
    ((desk, port),) = served
    assert (desk.file, port) == (tmp_path / "mine.json", 1234)
    assert not list(tmp_path.iterdir())


def test_a_browser_is_opened_if_that_is_asked_for(capsys, served, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run(capsys, "edit")
    assert opened == []
    run(capsys, "edit", "robnet_micro", "--open")
    assert opened == ["http://127.0.0.1:1/"]


@pytest.mark.usefixtures("served")
def test_an_unknown_spec_is_an_error_of_a_line(capsys):
    assert "did you mean 'robnet_free'" in fails(capsys, "edit", "robnet_fre")


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_without_the_libraries_the_extra_is_named(capsys, monkeypatch, library):
    for name in [
        name for name in sys.modules if name.split(".")[0] == library or name.startswith("robnet_zoo.editor.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"the editor needs {library}: pip install 'robnet-zoo[edit]'" in fails(capsys, "edit")
