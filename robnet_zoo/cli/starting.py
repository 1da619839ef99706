"""How a command starts: with a sign of life, as torch and timm alone take seconds to import, and without detours."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robnet_zoo.cli.parameters import is_first
from robnet_zoo.core.waiting import SignOfLife


@contextmanager
def starting(*, shown: bool = True) -> Iterator[SignOfLife]:
    """Show what a command does until the block ends, at first that torch is loaded; see `SignOfLife`.

    The block is everything that keeps a command silent at its start. A terminal shows that torch is loaded whatever
    `shown` is, as the line is blank again at the end. In the block, garbage is collected a hundred times less often:
    imports make hundreds of thousands of objects, which stay, and to look through them again and again takes a sixth of
    the time.

    shown: whether lines may go into a file or a pipe, too.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100 * thresholds[0], *thresholds[1:])
    watched = is_first() and (shown or sys.stderr.isatty())
    first = "loading torch" if "torch" not in sys.modules else "reading the input"
    with SignOfLife(first, shown=watched) as sign:
        try:
            yield sign
        finally:
            gc.set_threshold(*thresholds)
