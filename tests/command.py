"""The command in the process of a test."""

from pathlib import Path

import pytest

from robnet_zoo import cli


def run(capsys, *arguments: str | Path) -> str:
    cli.main([*map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments: str | Path) -> str:
    """Return the single line on stderr of a command that must exit with 2."""
    with pytest.raises(SystemExit) as exit:
        cli.main([*map(str, arguments)])
    captured = capsys.readouterr()
    assert exit.value.code == 2
    assert captured.err.startswith("robnet-zoo: ")
    assert captured.err.count("\n") == 1
    return captured.err
