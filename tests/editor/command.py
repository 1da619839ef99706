"""The command `robnet-zoo edit` in a process of its own."""

from __future__ import annotations

import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.processes import start_command


def started(*arguments: str | Path, folder: Path) -> tuple[BaseProcess, str]:
    """Start the editor; return its process and the page's address. folder: where what it prints is written."""
    printed = folder / "printed.txt"
    printed.unlink(missing_ok=True)
    process = start_command("edit", *arguments, output=printed, errors=folder / "errors.txt")
    while not printed.exists() or "\n" not in printed.read_text():
        assert process.is_alive()
        time.sleep(0.01)
    return process, printed.read_text().split()[0]
