"""Words of messages that depend on a number."""

from __future__ import annotations

from collections.abc import Collection


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 thread`, `2,000 images`. noun: in the singular, with an s in the plural."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(noun: str, names: Collection[str]) -> str:
    """Return names behind their noun: `operator Loop`, `operators If, Loop`.

    Args:
        noun: in the singular, with an s in the plural.
        names: one or more, in the order in which they are told.
    """
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names)}"
