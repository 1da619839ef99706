"""Time work of several kinds side by side, so that a drift of the machine's speed reaches all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from robnet_zoo.core.progress import bar

Name = TypeVar("Name", bound=Hashable)


def in_turns(
    work: Mapping[Name, Callable[[], object]], *, rounds: int, progress: bool = True
) -> dict[Name, list[float]]:
    """Let each do its work once a round, after a round that warms up, and return the seconds of every round.

    Args:
        work: what is done, by name.
        rounds: how often.
        progress: whether to show a line on stderr.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in work}
    with bar(total=rounds + 1, unit="rounds", shown=progress) as shown:
        for turn in range(rounds + 1):
            for name, do in work.items():
                started = time.perf_counter()
                do()
                if turn:
                    seconds[name].append(time.perf_counter() - started)
            shown.update()
    return seconds
