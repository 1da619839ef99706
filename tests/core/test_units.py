"""Fractions of the range of a pixel."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from robnet_zoo.core.documents import Document
from robnet_zoo.core.units import LinfPixels, Pixels, in_image_units, radius_problem
from robnet_zoo.errors import DocumentError


class Ball(Document):
    radius: Pixels = "8/255"
    linf: LinfPixels = "8/255"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("0", 0.0),
        ("1", 1.0),
        ("1/3", 1 / 3),
        ("0.03", 0.03),
        (".5", 0.5),
        ("1.", 1.0),
        ("7.8e-3", 0.0078),
        ("5E-1", 0.5),
        ("0.5/255", 0.5 / 255),
        (".25/255", 0.25 / 255),
    ],
)
def test_a_document_keeps_a_distance_as_it_was_given(text: str, value: float) -> None:
    ball = Ball.loads(f'{{"radius": "{text}"}}')
    assert ball.radius == text
    assert in_image_units(ball.radius) == value


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (8 / 255, "8/255"),
        (np.float64(2 / 255), "2/255"),
        (Fraction(1, 3), "1/3"),
        (0.03, "0.03"),
        (1e-5, "0.00001"),
        (0.5 / 255, "0.00196078431372549"),
        (0, "0"),
        (2.0, "2"),
    ],
)
def test_python_gives_a_number_and_the_document_holds_a_text_of_the_same_value(number: float, text: str) -> None:
    ball = Ball(radius=number)
    assert ball.radius == text
    assert in_image_units(ball.radius) == float(number)
    assert Ball.loads(ball.dumps()) == ball


TEXTS = (
    "",
    ".",
    "e-3",
    "8/0",
    "1/00",
    "1e-100",
    "1/1e2",
    "-1/255",
    "8 / 255",
    "8/255/2",
    "x",
    "1" * 101,
    "\u0668/\u0662",
)


@pytest.mark.parametrize("value", [*TEXTS, -0.1, math.nan, math.inf, 5e-324, True, None, [1]])
def test_what_is_not_a_distance_is_refused(value: object) -> None:
    with pytest.raises(
        DocumentError, match=r"^Ball: radius: expected a fraction such as 8/255 or a number such as 0\.03"
    ):
        Ball(radius=value)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("8", "8, did you mean 8/255\\?"),
        (8, "8, did you mean 8/255\\?"),
        ("255", "255$"),
        ("256/255", "256/255$"),
        (1.5, "1.5$"),
    ],
)
def test_nothing_is_further_away_than_the_range_of_a_pixel(value: str | float, got: str) -> None:
    with pytest.raises(DocumentError, match=f"linf: expected at most 1, the range of a pixel, got {got}"):
        Ball(linf=value)
    assert Ball(linf="1", radius=value).linf == "1"


@pytest.mark.parametrize("radius", [math.nan, math.inf, -0.1])
def test_the_radius_of_a_ball_is_a_finite_number_from_0_on(radius: float) -> None:
    assert radius_problem(radius, norm="l2").startswith("expected a finite number from 0 on, got ")
    assert radius_problem(3.0, norm="l2") == ""


def test_an_integer_beyond_every_float_is_not_a_distance() -> None:
    assert radius_problem(10**5000, norm="l2").startswith("expected a finite number")
    with pytest.raises(DocumentError, match="radius: expected a fraction"):
        Ball(radius=10**5000)
