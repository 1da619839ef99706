"""Ctrl-C is answered at once, by the command that it ends."""

import io
import os
import signal
import time

import pytest

from robnet_zoo.cli import stopping


@pytest.mark.parametrize(
    ("number", "seconds", "answered"),
    [(signal.SIGINT, 10, True), (signal.SIGINT, 0, False), (signal.SIGTERM, 0.1, False)],
)
def test_an_interruption_that_takes_time_is_answered_before_it_ends(monkeypatch, number, seconds, answered):
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr(stopping, "PATIENCE", 0.01 if seconds else 60)

    def long_operation(*_: object) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stderr.getvalue():
            time.sleep(0.01)

    before = signal.signal(number, long_operation)
    try:
        with stopping.answering():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert stderr.getvalue().startswith("robnet-zoo: interrupted; ends as soon as") == answered
    assert stderr.getvalue().count("\n") == answered
    assert signal.set_wakeup_fd(-1) == -1
