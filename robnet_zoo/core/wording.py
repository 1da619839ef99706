"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 thread`, `2,000 images`. noun: in the singular, with an s in the plural."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
