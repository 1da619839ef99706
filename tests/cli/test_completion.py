"""`robnet-zoo completion`, tried in a shell."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import redirect_stdout
from typing import Literal

import pytest

from robnet_zoo.cli.completion import completion
from tests.command import fails

COMPLETE = """
COMP_WORDS=({words}); COMP_CWORD={last}
_robnet_zoo
echo "${{COMPREPLY[@]}}"
"""


def script_of(shell: Literal["bash", "zsh"]) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        completion(shell)
    return printed.getvalue()


@pytest.fixture(scope="module")
def script() -> str:
    return script_of("bash")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["robnet-zoo", "est"], ["estimate"]),
        (["robnet-zoo", "search", "sup"], ["supernet"]),
        (["robnet-zoo", "train", "robnet_micro", "--attack.mom"], ["--attack.momentum"]),
        (["robnet-zoo", "completion", "z"], ["zsh"]),
        (["robnet-zoo", "list", "--log"], ["--log-file"]),
    ],
)
def test_bash_completes_commands_flags_and_choices(script, words, completed) -> None:
    program = script + COMPLETE.format(words=" ".join(words), last=len(words) - 1)
    done = subprocess.run(["bash"], input=program, capture_output=True, text=True, check=False)
    assert done.stdout.split() == completed, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_names_of_files_where_it_knows_no_words(script) -> None:
    done = subprocess.run(
        ["bash"], input=f"{script}\ncomplete -p robnet-zoo", capture_output=True, text=True, check=True
    )
    assert "-o default" in done.stdout


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
@pytest.mark.parametrize("steps", ["compinit -u -D; source ./_robnet-zoo", "fpath=($PWD $fpath); compinit -u -D"])
def test_zsh_knows_what_the_script_completes_sourced_or_in_fpath(tmp_path, steps) -> None:
    (tmp_path / "_robnet-zoo").write_text(script_of("zsh"))
    program = f"autoload -U compinit; {steps}; print $_comps[robnet-zoo]"
    done = subprocess.run(["zsh", "-f", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_robnet-zoo\n", "")


def test_another_shell_is_refused(capsys) -> None:
    assert "csh" in fails(capsys, "completion", "csh")
