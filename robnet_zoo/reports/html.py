"""HTML pages that need nothing else: no network, no other file; each has its own template and style in a folder."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

SHARED = Path(__file__).with_suffix(".css")


def environment(folder: Path) -> Environment:
    """Templates of a folder. What is put into them is escaped; a block is told by `is of_kind('Table')`."""
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests["of_kind"] = lambda block, kind: type(block).__name__ == kind
    return found


def style(folder: Path) -> Markup:
    """What all pages share, and then the folder's own `page.css`."""
    return Markup("").join(Markup(path.read_text(encoding="utf-8")) for path in (SHARED, folder / "page.css"))
