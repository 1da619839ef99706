"""`robnet-zoo search`: what goes wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.cli import main


def test_unknown_config_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", "run", "--config", "smal", "--data", "digits", "-o", "nowhere"])
    assert "did you mean 'small'?" in capsys.readouterr().err
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a study or --table, got neither"),
        (["study.json", "--table", "cells.csv"], "expected a study or --table, got both"),
        (["study.json", "--channels", "4"], "--channels: expected --table with it, got a study"),
        (["study.json", "--robust", "pgd20"], "--robust: expected --table with it, got a study"),
        (["--table", "cells.csv", "--supernet", "run"], "--supernet: expected a study with it, got --table"),
    ],
)
def test_scores_are_of_a_study_or_a_table(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["search", "score", *arguments, "--data", "digits", "-o", "scores.json"])
    assert message in capsys.readouterr().err
