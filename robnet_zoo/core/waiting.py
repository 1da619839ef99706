"""What a command is doing while it shows nothing else: a line on stderr that ticks on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

PATIENCE = 2.0  # seconds of silence before a log gets a line
REPEAT = 30.0  # seconds between lines in a log
TICK = 1.0  # seconds between changes of the line on a terminal
LOOK = 0.1  # seconds between looks at the clock


class SignOfLife:
    """Say on stderr what is being done, for as long as the context lasts.

    On a terminal the line appears at once, counts seconds, and is blank again at the end. In a file or a pipe it is a
    plain line, which only work of two seconds or more gets, and again every half minute.

    Args:
        doing: what begins now, such as "loading torch".
        shown: whether anything is shown.
    """

    def __init__(self, doing: str, *, shown: bool = True) -> None:
        self._stream = sys.stderr
        self._terminal = self._stream.isatty()
        self._shown = shown
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._width = 0  # characters of the line on the terminal
        self.says(doing)

    def says(self, doing: str) -> None:
        """Say what begins now instead."""
        with self._lock:
            self._doing, self._begun = doing, time.monotonic()
            self._due = self._begun + PATIENCE
            if self._terminal:
                self._show()

    def __enter__(self) -> Self:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._shown:
            self._thread.join()
        if self._width:  # nothing but carriage returns, so that a mistake is still a single line
            self._write(" " * self._width + "\r")

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            with self._lock:
                if time.monotonic() >= self._due:
                    self._show()

    def _show(self) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        seconds = int(now - self._begun)
        line = f"robnet-zoo: {self._doing} ..." + (f" {seconds} s" if seconds > PATIENCE else "")
        self._due = now + (TICK if self._terminal else REPEAT)
        if self._terminal:
            self._write(f"{line:{self._width}}\r")
            self._width = max(self._width, len(line))
        else:
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)
