"""Studies: any number of workers, and whatever happens to them, no candidate is lost and none is counted twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from crew import Noted, assert_all_counted_once, finish, lines, plan, start, until


def test_a_worker_killed_in_the_middle_loses_no_candidate_and_none_is_counted_twice(where: str, tmp_path: Path) -> None:
    log, wanted = tmp_path / "log", plan(24)
    workers = [start(where, wanted, Noted(log, 0.05)) for _ in range(3)]
    victim = workers[0].pid
    assert victim is not None
    until(
        lambda: (
            len(lines(log, "end", victim)) >= 2 and len(lines(log, "begin", victim)) > len(lines(log, "end", victim))
        )
    )
    os.kill(victim, signal.SIGKILL)
    finish(*workers[1:])
    assert_all_counted_once(where, wanted)
    begun, ended = Counter(lines(log, "begin")), Counter(lines(log, "end"))
    assert set(begun) == set(range(24))
    left = Counter(lines(log, "begin", victim)) - Counter(lines(log, "end", victim))
    assert sum(left.values()) <= 1
    assert begun - Counter(range(24)) == left  # nothing else was begun twice
    assert sum(ended.values()) == 24
