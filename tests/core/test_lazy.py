"""Names and modules that are imported when they are first used."""

from __future__ import annotations

import sys

import pytest

from robnet_zoo.core import lazy


def test_a_name_is_imported_from_its_home_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    get, _ = lazy.face("json", {".decoder": ("JSONDecoder",), "colorsys": ("rgb_to_hsv",)})
    assert "colorsys" not in sys.modules
    assert get("rgb_to_hsv") is sys.modules["colorsys"].rgb_to_hsv
    assert get("JSONDecoder") is sys.modules["json.decoder"].JSONDecoder


def test_a_subpackage_is_a_name() -> None:
    get, _ = lazy.face("json", {}, parts=("decoder",))
    assert get("decoder") is sys.modules["json.decoder"]


def test_the_names_are_listed_beside_those_that_are_there() -> None:
    _, names = lazy.face("json", {"colorsys": ("rgb_to_hsv",)}, parts=("tool",))
    assert {"rgb_to_hsv", "tool", "loads"} <= set(names())
    assert names() == sorted(names())


def test_an_unknown_name_is_an_attribute_error() -> None:
    get, _ = lazy.face("json", {"colorsys": ("rgb_to_hsv",)})
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'rgb_to_hls'"):
        get("rgb_to_hls")


def test_a_module_is_imported_with_its_first_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    colorsys = lazy.module("colorsys")
    assert "colorsys" not in sys.modules
    assert colorsys.rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv


def test_a_module_has_no_attributes_of_its_own() -> None:
    with pytest.raises(AttributeError, match="module 'colorsys' has no attribute 'nope'"):
        _ = lazy.module("colorsys").nope
