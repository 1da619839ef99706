"""The last few values are kept, and no more."""

from __future__ import annotations

import threading
import time

import pytest

from robnet_zoo.editor.recent import Recent


def test_a_value_is_made_once_and_the_least_recent_one_goes():
    made: list[str] = []

    def make(key: str):
        return lambda: made.append(key) or key

    recent: Recent[str] = Recent(2)
    for key in "abacab":
        assert recent.get(key, make(key)) == key
    assert made == ["a", "b", "c", "b"]


def test_two_threads_never_make_the_same_value_twice():
    made: list[int] = []
    recent: Recent[int] = Recent(1)

    def make() -> int:
        time.sleep(0.02)
        made.append(1)
        return 1

    threads = [threading.Thread(target=recent.get, args=("key", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_cannot_be_made_is_not_kept():
    recent: Recent[float] = Recent(1)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 / 0)
    assert recent.get("key", lambda: 2.0) == 2.0
