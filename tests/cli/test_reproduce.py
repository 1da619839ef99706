"""`robnet-zoo reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from robnet_zoo.cli import main
from robnet_zoo.reproduce import reproduction
from robnet_zoo.reproduce.jobs import AgendaLine
from robnet_zoo.reproduce.result import ReproductionResult
from tests.command import fails
from tests.small_plan import COMMAND, made_result


def test_the_agenda_says_what_is_to_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = COMMAND.index("--test")
    main([*COMMAND[:at], *COMMAND[at + 2 :], "-o", str(tmp_path), "--agenda"])  # which needs no images to measure on
    lines = capsys.readouterr().out.splitlines()
    assert "At a fraction of the paper's scale: width 0.05" in lines[0]
    jobs = [" ".join(line.split()[:2]) for line in lines[1:-1]]
    assert jobs == ["train ResNet-18,", "measure ResNet-18,", "train RobNet-free,", "measure RobNet-free,"]
    assert lines[-1].startswith("0 of 4 there already; about ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_stdout_is_clean_if_that_is_wanted(flag: str, tmp_path: Path, monkeypatch, capsys) -> None:
    def finished(work: reproduction.Reproduction, *, progress: bool) -> ReproductionResult:
        work.notes.append("left out: ResNet-18: its loss is NaN")
        assert progress is (flag == "--json")
        return made_result()

    monkeypatch.setattr(reproduction.Reproduction, "run", finished)
    monkeypatch.setattr(reproduction.Reproduction, "agenda", lambda work: [])
    main([*COMMAND, "-o", str(tmp_path), flag])
    captured = capsys.readouterr()
    assert captured.out == ("" if flag == "--quiet" else made_result().dumps())
    assert captured.err == "left out: ResNet-18: its loss is NaN\n"


def test_an_agenda_is_a_document_too(tmp_path: Path, monkeypatch, capsys) -> None:
    job = SimpleNamespace(verb="train", name="ResNet-18, seed 0")
    monkeypatch.setattr(reproduction.Reproduction, "agenda", lambda work: [AgendaLine(job, False, 3.5)])
    main([*COMMAND, "-o", str(tmp_path), "--agenda", "--json"])
    agenda = json.loads(capsys.readouterr().out)
    assert (agenda["plan"], agenda["scale"]["width"]) == ("table1", 0.05)
    assert agenda["jobs"] == [{"verb": "train", "name": "ResNet-18, seed 0", "done": False, "seconds": 3.5}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel1"], "tabel1: neither a bundled plan nor the path of a JSON file, did you mean 'table1'?"),
        (["table1"], "expected --data, --test, --output for table1, got none"),
        (["table1", "--data", "digits", "-o", "run"], "expected --test for table1, got none"),
        (["table1", "--agenda", "-o", "run"], "expected --data, --test for table1, got none"),
    ],
)
def test_what_is_missing_is_named_after_a_plan_that_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, "reproduce", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "ResNet-19"], "table1: expected rows among ResNet-18, "),
        (["--scale", "smal"], "smal: neither a bundled scale nor the path of a JSON file, did you mean 'small'"),
        (["--epochs", "2"], "epochs: expected"),
        (["--size", "0.6"], "robnet_free: expected a size whose images are divisible by 4, got 19x19 pixels"),
        (["--test", "digits"], "--data, --test: expected equally many of both, got 1 and 2"),
        (["--images", "0.01"], "expected at least one batch of 128 training images, got 12"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table1", "--data", "digits", "--test", "digits", "-o", str(tmp_path)]
    rows = [] if "--rows" in arguments else ["--rows", "RobNet-free"]
    with pytest.raises(SystemExit) as caught:
        main([*command, *rows, "--depth", "0.1", "--width", "0.05", *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
