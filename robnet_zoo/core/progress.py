"""One progress bar for all long work: rate and remaining time, in a terminal and in a log file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TextIO

from tqdm import tqdm

BARS = "▁▂▃▄▅▆▇█"
LOGGED = 30.0  # seconds between lines in a log


class _Bar(tqdm):  # type: ignore[misc]  # tqdm is not typed
    """A bar whose line also goes to a log, if there is one, every half minute and at its end."""

    logged = 0.0  # seconds, when it last did

    def display(self, *arguments: Any, **options: Any) -> Any:
        if time.monotonic() - self.logged >= LOGGED and self.n > 0:
            self._log()
        return super().display(*arguments, **options)

    def close(self) -> None:
        if not self.disable:
            self._log()
        super().close()

    def _log(self) -> None:
        self.logged = time.monotonic()
        logger = logging.getLogger(__name__)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", " ".join(self.format_meter(**self.format_dict | {"ascii": True, "ncols": 0}).split()))


class _Lines(_Bar):
    """A line each time, where a terminal would show the same line again."""

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        def write(line: str) -> None:
            file.write(f"{line}\n")
            file.flush()

        return write


def sparkline(values: Sequence[float], *, width: int = 20) -> str:
    """Return a curve as a word of bars, from the least value to the greatest.

    width: in characters; of more values than that, each bar is the mean of its part.
    """
    count = min(width, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)] if count else []
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * steps)] for mean in means)


def bar(*, total: int, done: int = 0, unit: str = "images", shown: bool = True, own_eta: bool = False) -> tqdm[Any]:
    """Return a tqdm bar on stderr; a log file gets a line every half minute.

    Args:
        total: units of work.
        done: units that are already done.
        unit: the name of a unit.
        shown: whether the bar is shown at all.
        own_eta: whether the caller puts the remaining time into the postfix, because units of work differ in cost.
    """
    terminal = os.isatty(2)
    kind = _Bar if terminal else _Lines
    left = "" if own_eta else "<{remaining}"
    return kind(
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=not shown,
        mininterval=0.5 if terminal else 30,
        ascii=not terminal,
        bar_format=f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} [{{elapsed}}{left}, {{rate_noinv_fmt}}{{postfix}}]",
    )
