"""Units of numbers in documents: shares of a whole, and distances in images, where 1 is the range of a pixel."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from robnet_zoo.core.documents import problems_error, shown

LEVELS = 255  # of a pixel, beside black
DECIMAL = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
TEXT = re.compile(rf"{DECIMAL}/0*[1-9][0-9]*|{DECIMAL}(e[+-]?[0-9]{{1,2}})?", re.IGNORECASE)
MAX_LENGTH = 100  # of such a text

Share = Annotated[float, Field(ge=0, le=1)]


def _as_text(value: Any) -> str:
    """Return a distance as documents hold it: a text as it was given, a number as a fraction of 255 where it is one."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and is_finite(value)
    text = _digits(value) if is_number else value
    if not isinstance(text, str) or len(text) > MAX_LENGTH or not TEXT.fullmatch(text):
        expected = "expected a fraction such as 8/255 or a number such as 0.03, from 0 on"
        raise problems_error([((), f"{expected}, got {shown(value)}")])
    return text


def is_finite(value: Any) -> bool:
    """Return whether a number is one that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _digits(value: Any) -> str:
    """Return the text of a finite number, with which `in_image_units` gives the same number."""
    if isinstance(value, Fraction):
        return str(value)
    number = float(value)
    if number.is_integer():
        return str(int(number))
    levels = round(number * LEVELS)
    return f"{levels}/{LEVELS}" if levels / LEVELS == number else format(Decimal(repr(number)), "f")


def _check_range(value: str) -> str:
    if problem := radius_problem(value, norm="linf"):
        raise problems_error([((), problem)])
    return value


Pixels = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(description="in image units, as a fraction or a number: 8/255, 0.03"),
]
"""A distance in images. Python may give a number; a document holds a text."""

LinfPixels = Annotated[Pixels, AfterValidator(_check_range)]
"""A distance in the l-infinity norm, which cannot exceed the range of a pixel."""


def fraction(pixels: str) -> Fraction:
    """Return the exact value of a `Pixels`; 0.5/255 is 1/510."""
    numerator, _, denominator = pixels.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)


def in_image_units(pixels: str) -> float:
    """Return the value of a `Pixels`: 8/255 is 0.0313..., where 1 is the range from black to white."""
    return float(fraction(pixels))


def radius_problem(radius: str | float, *, norm: Literal["linf", "l2"]) -> str:
    """Return what is wrong with the radius of a ball around images, or with a step in it; nothing if it can be one.

    In l-infinity nothing is further away than 1, the range of a pixel. Whoever gives more means levels of 255.

    Args:
        radius: in image units, a number or a `Pixels`.
        norm: of the ball.
    """
    value = in_image_units(radius) if isinstance(radius, str) else radius
    if not (is_finite(value) and value >= 0):
        return f"expected a finite number from 0 on, got {shown(radius)}"
    if norm == "linf" and value > 1:
        text = radius if isinstance(radius, str) else f"{radius:g}"
        advice = f", did you mean {value:g}/{LEVELS}?" if value < LEVELS and float(value).is_integer() else ""
        return f"expected at most 1, the range of a pixel, got {text}{advice}"
    return ""
