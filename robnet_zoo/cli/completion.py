"""`robnet-zoo completion`: a script by which a shell completes commands and flags."""

from __future__ import annotations

import re
from typing import Literal

# Names of files are completed where the script itself has no words, as bash does by `-o default`. Sourced, the script
# has to say what it completes; in a folder of $fpath it is the body of the function that zsh calls.
FOR_ZSH = """
_robnet-zoo() {{
  {function} "$@" || _files
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _robnet-zoo "$@"
else
  compdef _robnet-zoo robnet-zoo
fi
"""


def completion(shell: Literal["bash", "zsh", "fish", "powershell"]) -> None:
    """Print the script by which a shell completes commands and flags.

    In bash: `source <(robnet-zoo completion bash)`, once or in ~/.bashrc. In zsh the same, after `compinit`. In fish:
    `robnet-zoo completion fish | source`. In PowerShell: `robnet-zoo completion powershell | Out-String |
    Invoke-Expression`.

    Args:
        shell: The shell.
    """
    from robnet_zoo.cli import command

    script = command().generate_completion(shell=shell)
    if shell == "bash":
        script = script.replace("complete -F", "complete -o default -F")
    if shell == "zsh" and (function := re.search(r"(?m)^(\S+)\(\) \{", script)):
        script += FOR_ZSH.format(function=function[1])
    print(script)
