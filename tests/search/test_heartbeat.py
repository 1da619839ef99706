"""Heartbeats: a process that is gone is known, and one that is silent for too long counts as dead."""

from __future__ import annotations

import time

import pytest

from robnet_zoo.search.heartbeat import Heartbeat, Pace, StaleWatch, is_gone, this_process
from tests.search.crew import until


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    here = this_process()
    assert not is_gone(here)
    assert is_gone(here | {"started": "1"})
    assert not is_gone(here | {"started": "1", "host": "elsewhere"})


def test_a_process_of_an_unknown_host_is_never_known_to_be_gone() -> None:
    assert not is_gone(this_process() | {"started": "1", "host": None})


def test_a_heart_beats_until_it_is_stopped() -> None:
    beats: list[float] = []
    heartbeat = Heartbeat(lambda: beats.append(time.monotonic()) is None, interval=0.001)
    until(lambda: len(beats) >= 3)
    heartbeat.stop()
    count = len(beats)
    time.sleep(0.01)
    assert len(beats) == count
    assert not heartbeat.lost


def test_a_heart_whose_beat_is_refused_has_lost_its_work() -> None:
    heartbeat = Heartbeat(lambda: False, interval=0.001)
    until(lambda: heartbeat.lost)
    heartbeat.stop()


def test_a_heartbeat_is_stale_only_after_the_grace_without_a_change() -> None:
    watch = StaleWatch(grace=10)
    assert not watch.is_stale(0, "a", now=0)  # the first look
    assert not watch.is_stale(0, "a", now=10)
    assert watch.is_stale(0, "a", now=10.5)
    assert not watch.is_stale(0, "b", now=11)  # it beat again
    assert not watch.is_stale(1, "a", now=11)  # another trial
    assert not watch.is_stale(0, "b", now=21)
    assert watch.is_stale(0, "b", now=21.5)


@pytest.mark.parametrize(("interval", "poll"), [(60.0, 5.0), (0.25, 0.25)])
def test_a_waiting_worker_looks_at_least_every_five_seconds(interval: float, poll: float) -> None:
    assert Pace(interval=interval).poll == poll
