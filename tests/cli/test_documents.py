"""`robnet-zoo specs`, `recipes`, `protocols`, `configs`, `plans` and `scales`."""

import pytest

from tests.command import fails, run
from tests.core.test_bundled import KINDS

COMMANDS = ("specs", "recipes", "protocols", "configs", "plans", "scales")


@pytest.mark.parametrize(("command", "kind"), [*zip(COMMANDS, KINDS, strict=True)], ids=COMMANDS)
def test_documents_are_listed_and_printed_in_full(command, kind, capsys, tmp_path):
    lines = run(capsys, command).splitlines()
    assert [line.split()[0] for line in lines] == kind.names()
    assert all(len(line.split()) > 2 for line in lines)
    name = kind.names()[-1]
    printed = run(capsys, command, name)
    assert printed == kind.load(name).dumps()
    (tmp_path / "mine.json").write_text(printed)
    assert run(capsys, command, tmp_path / "mine.json") == printed
    assert "neither a bundled" in fails(capsys, command, "nothing")
