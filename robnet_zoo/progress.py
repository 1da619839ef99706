"""One progress bar for all long work: rate and remaining time, in a terminal and in a log file."""

from __future__ import annotations

import os
from typing import Any

from tqdm import tqdm


def bar(*, total: int, done: int = 0, unit: str = "images", shown: bool = True) -> tqdm[Any]:
    """A tqdm bar on stderr; a log file gets a line every half minute."""
    terminal = os.isatty(2)
    return tqdm(
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=not shown,
        mininterval=0.5 if terminal else 30,
        ascii=not terminal,
    )
