"""Heartbeats: how the workers of a search notice that another one has died.

Optuna 5 has its own heartbeat (`heartbeat_interval` of `RDBStorage`) and a callback that retries stale trials
(`RetryHeartbeatStaleTrialCallback`). They are not used here:

- That heartbeat only beats in `Study.optimize`. By Optuna's documentation it does not work with ask and tell, by which
  workers claim candidates here.
- Only `RDBStorage` has it; a journal on a shared file system has not.
- The worker that fails a stale trial adds its successor in a second step. If it is killed between the two, the
  candidate is lost. Here a candidate is free as soon as no trial owns it, so there is no second step.
- Both are experimental.
"""

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
    """The interval of a worker's heartbeats, and the silence after which it counts as dead, both in seconds."""

    interval: float = 60.0
    grace: float = 300.0

    @property
    def poll(self) -> float:
        """Return how often a worker that waits for others looks at their progress, in seconds."""
        return min(5.0, self.interval)


def this_process() -> dict[str, Any]:
    """Return what other processes need to know in order to look for this one, as JSON."""
    return {"name": platform.node(), "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Return whether a process is known to be over.

    It is if it ran on this machine, and no process here has its number or the one that has it began at another time.
    """
    if process["host"] is None or process["host"] != _host():
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's, so it exists
        pass
    started = _started(process["pid"])
    return started is not None and started != process["started"]


def _host() -> str | None:
    """Return a name for this boot of this machine and for its process numbers, since each container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # only Linux has these files; elsewhere heartbeats must suffice
        return None


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; `over` if it only waits for its parent; None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "over" if fields[0] in "ZX" else fields[19]


class Heartbeat:
    """A thread that calls `beat` every `interval` seconds until it is stopped or `beat` returns False."""

    def __init__(self, beat: Callable[[], bool], *, interval: float) -> None:
        self.lost = False  # whether the work was taken away
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(beat, interval), name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self, beat: Callable[[], bool], interval: float) -> None:
        while not self._over.wait(interval):
            if not beat():
                self.lost = True
                return

    def stop(self) -> None:
        """Stop; return once no further beat can come."""
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


class StaleWatch:
    """A worker's record of the others' heartbeats. One that has not changed for `grace` seconds is stale.

    The seconds are those of the watching worker's own clock, so the clocks of machines need not agree.
    """

    def __init__(self, *, grace: float) -> None:
        self._grace = grace
        self._seen: dict[int, tuple[object, float]] = {}

    def is_stale(self, number: int, beat: object, *, now: float) -> bool:
        """Return whether the heartbeat of a trial is stale.

        Args:
            number: the trial's.
            beat: its last heartbeat, any value that changes with each.
            now: `time.monotonic()` from before the heartbeat was read.
        """
        last, since = self._seen.get(number, (None, None))
        if since is None or last != beat:
            self._seen[number] = (beat, now)
            return False
        return now - since > self._grace
