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
