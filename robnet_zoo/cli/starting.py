"""A sign of life while a command starts: torch and timm alone take seconds to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robnet_zoo.cli.parameters import is_first


@contextmanager
def starting() -> Iterator[None]:
    """Show that torch is loaded, on a terminal, until the block ends; then the line is blank again.

    The block is everything that keeps a command silent at its start. A process that has torch already shows nothing,
    and where stderr is a file or a pipe, it holds mistakes alone.
    """
    watched = is_first() and sys.stderr.isatty()
    line = "robnet-zoo: loading torch ..." if watched and "torch" not in sys.modules else ""
    print(line, end="\r" if line else "", file=sys.stderr, flush=True)
    try:
        yield
    finally:  # nothing but carriage returns, so that a mistake is still a single line
        print(" " * len(line), end="\r" if line else "", file=sys.stderr, flush=True)
