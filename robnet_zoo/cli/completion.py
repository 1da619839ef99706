"""`robnet-zoo completion`: a script by which a shell completes commands and flags."""

from __future__ import annotations

from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish", "powershell"]) -> None:
    """Print the script by which a shell completes commands and flags.

    In bash: `source <(robnet-zoo completion bash)`, once or in ~/.bashrc. In zsh the same, after `compinit`. In fish:
    `robnet-zoo completion fish | source`. In PowerShell: `robnet-zoo completion powershell | Out-String |
    Invoke-Expression`.

    Args:
        shell: The shell.
    """
    from robnet_zoo.cli import command

    print(command().generate_completion(shell=shell))
