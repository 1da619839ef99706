"""`robnet-zoo completion`, tried in a shell."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import redirect_stdout

import pytest

from robnet_zoo.cli.completion import completion
from tests.command import fails

COMPLETE = """
COMP_WORDS=({words}); COMP_CWORD={last}
_robnet_zoo
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    with redirect_stdout(io.StringIO()) as printed:
        completion("bash")
    return printed.getvalue()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["robnet-zoo", "est"], ["estimate"]),
        (["robnet-zoo", "search", "sup"], ["supernet"]),
        (["robnet-zoo", "train", "robnet_micro", "--attack.mom"], ["--attack.momentum"]),
        (["robnet-zoo", "completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes_commands_flags_and_choices(script, words, completed) -> None:
    program = script + COMPLETE.format(words=" ".join(words), last=len(words) - 1)
    done = subprocess.run(["bash"], input=program, capture_output=True, text=True, check=False)
    assert done.stdout.split() == completed, done.stderr


def test_another_shell_is_refused(capsys) -> None:
    assert "csh" in fails(capsys, "completion", "csh")
