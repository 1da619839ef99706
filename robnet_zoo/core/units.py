"""Units of numbers in documents: shares of a whole, and distances in images as fractions of the range of a pixel."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[str, Field(pattern=r"^\d+(/[1-9]\d*)?$", description="in image units, as a fraction: 8/255")]


def in_image_units(pixels: str) -> float:
    """Return the value of a `Pixels` text: 8/255 is 0.0313..., where 1 is the range from black to white."""
    return float(Fraction(pixels))
