"""Ctrl-C is answered at once, also where what computes cannot stop for seconds."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

PATIENCE = 0.5  # seconds that a command may take to end before it says that it will


@contextmanager
def answering() -> Iterator[None]:
    """Say on stderr that Ctrl-C was pressed, unless the block ends at once.

    Python interrupts a program only between two of its own instructions. An operation of torch or of ONNX Runtime comes
    to its end first, and so does a document that is being written. The kernel's signal wakes a thread through a socket.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may be woken
        yield
        return
    over = threading.Event()
    ours, of_signals = socket.socketpair()
    with closing(ours), closing(of_signals):
        of_signals.setblocking(False)
        before = signal.set_wakeup_fd(of_signals.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=_answer, args=(ours, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            signal.set_wakeup_fd(before)
            of_signals.close()  # which ends the thread
            thread.join()


def _answer(signals: socket.socket, over: threading.Event) -> None:
    """Wait for the first SIGINT among the signals, each a byte, and answer it; the end of the socket ends the wait."""
    while number := signals.recv(1):
        if number[0] == signal.SIGINT:
            if not over.wait(PATIENCE):
                text = "robnet-zoo: interrupted; ends as soon as the operation that is being computed does"
                print(text, file=sys.stderr, flush=True)
            return
