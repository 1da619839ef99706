"""A report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from robnet_zoo.reports.html import environment, style
from robnet_zoo.reports.robustness.blocks import Bytes, Section
from robnet_zoo.reports.robustness.pictures import difference, factor, farthest

FOLDER = Path(__file__).parent


def html(title: str, overview: str, sections: Sequence[Section]) -> str:
    """The page. Whatever comes from documents is escaped by the template engine."""
    templates = environment(FOLDER)
    templates.filters["png"] = png
    templates.filters["breakable"] = breakable
    return templates.get_template("page.html").render(
        title=title,
        overview=overview,
        sections=sections,
        style=style(FOLDER),
        script=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
        difference=difference,
        farthest=farthest,
        factor=factor,
    )


def breakable(text: str) -> Markup:
    """Text that may be broken into lines behind the marks within a name."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/-])(?=[A-Za-z0-9])", text))


def png(pixels: Bytes) -> str:
    """(H, W, 3) uint8 as a data address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
