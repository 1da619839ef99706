"""`--log-file`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robnet_zoo import cli
from robnet_zoo.cli import architectures
from robnet_zoo.cli.log import logged
from robnet_zoo.core.files import note_shadowed
from robnet_zoo.core.progress import bar
from tests.command import fails, run

STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")


def lines(file: Path) -> list[str]:
    """Return the lines of a log without their times, each of which must have one."""
    listed = file.read_text().splitlines()
    assert all(STAMP.match(line) for line in listed)
    return [STAMP.sub("", line) for line in listed]


def test_a_log_holds_the_command_its_notes_its_progress_and_its_end(capsys, tmp_path) -> None:
    file = tmp_path / "logs" / "run.log"
    with logged(file, ["train", "my cell.json"]):
        note_shadowed("digits", taken="the data set")
        with bar(total=8) as shown:
            shown.update(8)
    first, second, note, progress, last = lines(file)
    assert first == "robnet-zoo train 'my cell.json'"
    assert "torch " in second
    assert note.startswith("digits: took the data set of this name")
    assert progress.startswith("100% 8/8 [")
    assert re.fullmatch(r"done after \d+\.\d s", last)
    assert note in capsys.readouterr().err  # the terminal shows it as without a file


def test_a_mistake_is_in_the_log_and_a_second_command_is_added(capsys, tmp_path) -> None:
    file = tmp_path / "run.log"
    message = fails(capsys, "specs", "robnet_micr", f"--log-file={file}")
    run(capsys, "specs", "--log-file", file)
    logged = lines(file)
    assert message.removeprefix("robnet-zoo: ").strip() in logged
    assert [line.partition(" after ")[0] for line in logged if " after " in line] == ["ended with exit code 2", "done"]


def test_what_validate_says_is_in_the_log(capsys, tmp_path) -> None:
    (tmp_path / "cell.json").write_text('{"schema_version": 1}')
    with pytest.raises(SystemExit):
        cli.main(["validate", str(tmp_path / "cell.json"), "--log-file", str(tmp_path / "run.log")])
    shown = capsys.readouterr().err.splitlines()
    assert shown
    assert set(shown) <= set(lines(tmp_path / "run.log"))


def test_a_mistake_of_the_package_is_in_the_log_with_its_traceback(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(architectures, "spec_names", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list", "--log-file", str(tmp_path / "run.log")])
    text = (tmp_path / "run.log").read_text()
    assert "Traceback" in text
    assert "ended by a ZeroDivisionError" in text


def test_a_log_that_cannot_be_written_is_one_line(capsys, tmp_path) -> None:
    assert str(tmp_path) in fails(capsys, "specs", "--log-file", tmp_path)
