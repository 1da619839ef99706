"""A sign of life while a command starts: torch and timm alone take seconds to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robnet_zoo.cli.parameters import is_first


@contextmanager
def starting() -> Iterator[None]:
    """Show that torch is loaded, on stderr, until the block ends; then the line is blank again.

    The block is everything that keeps a command silent at its start. A process that has torch already shows nothing.
    """
    line = "robnet-zoo: loading torch ..." if is_first() and "torch" not in sys.modules else ""
    print(line, end="\r" if line else "", file=sys.stderr, flush=True)
    try:
        yield
    finally:  # nothing but carriage returns, so that a mistake is still a single line
        print(" " * len(line), end="\r" if line else "", file=sys.stderr, flush=True)
