"""Who works on a candidate, and whether it still lives: the signs that workers of a search give each other."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pace:
    """How often a worker gives a sign of life, and after how long without one it counts as dead, in seconds."""

    interval: float = 60.0
    grace: float = 300.0

    @property
    def poll(self) -> float:
        """How often a worker that waits for others looks."""
        return min(5.0, self.interval)


def this_process() -> dict[str, Any]:
    """What others need to know in order to look for this process."""
    return {"name": platform.node(), "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process is known to be over: it ran on this machine, which now has none or another of its number."""
    if process["host"] is None or process["host"] != _host():
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # someone else's
        pass
    started = _started(process["pid"])
    return started is not None and started != process["started"]


def _host() -> str | None:
    """A name of this boot of this machine and of its space of process numbers, as containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # only Linux says so; elsewhere the signs of life have to do
        return None


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot; `over` for one that only waits for its parent; None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "over" if fields[0] in "ZX" else fields[19]


class Heartbeat:
    """A thread that gives a sign of life every `interval` seconds, until it is stopped or `beat` says False."""

    def __init__(self, beat: Callable[[], bool], *, interval: float) -> None:
        self.lost = False  # the work was taken away
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(beat, interval), name="sign of life", daemon=True)
        self._thread.start()

    def _run(self, beat: Callable[[], bool], interval: float) -> None:
        while not self._over.wait(interval):
            if not beat():
                self.lost = True
                return

    def stop(self) -> None:
        """Returns when no further sign will come."""
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


class StaleWatch:
    """What one worker has seen of the others: a sign that has not changed for `grace` seconds of its own clock is old.

    So the clocks of machines need not agree.
    """

    def __init__(self, *, grace: float) -> None:
        self._grace = grace
        self._seen: dict[int, tuple[object, float]] = {}

    def is_old(self, number: int, sign: object, *, now: float) -> bool:
        """Whether the sign of a trial is old. now: by time.monotonic, from before the sign was read."""
        last, since = self._seen.get(number, (None, None))
        if since is None or last != sign:
            self._seen[number] = (sign, now)
            return False
        return now - since > self._grace
