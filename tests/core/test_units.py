"""Fractions of the range of a pixel."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from robnet_zoo.core.units import Pixels, in_image_units


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0", 0.0), ("1", 1.0), ("1/3", 1 / 3)])
def test_a_fraction_of_the_range_is_a_number(text: str, value: float) -> None:
    assert in_image_units(TypeAdapter(Pixels).validate_python(text)) == value


@pytest.mark.parametrize("text", ["", "8/0", "-1/255", "8 / 255", "0.03", "8/255/2", "x"])
def test_what_is_not_a_fraction_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Pixels).validate_python(text)
