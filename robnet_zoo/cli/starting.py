"""How a command starts: with a sign of life, as torch and timm alone take seconds to import, and without detours."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robnet_zoo.cli.parameters import is_first


@contextmanager
def starting() -> Iterator[None]:
    """Show that torch is loaded, on a terminal, until the block ends; then the line is blank again.

    The block is everything that keeps a command silent at its start. A process that has torch already shows nothing,
    and where stderr is a file or a pipe, it holds mistakes alone. In the block, garbage is collected a hundred times
    less often: imports make hundreds of thousands of objects, which stay, and to look through them again and again
    takes a sixth of the time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100 * thresholds[0], *thresholds[1:])
    watched = is_first() and sys.stderr.isatty()
    line = "robnet-zoo: loading torch ..." if watched and "torch" not in sys.modules else ""
    print(line, end="\r" if line else "", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        # nothing but carriage returns, so that a mistake is still a single line
        print(" " * len(line), end="\r" if line else "", file=sys.stderr, flush=True)
