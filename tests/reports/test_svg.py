"""The chart engine: what is drawn lies where its values are, and a legend names what has a name."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from robnet_zoo.reports.svg import FULL, Axis, Bar, Bars, Guide, Point, Series, chart, legend, panels, si

X, Y = Axis("x"), Axis("y")


def test_bars_stand_on_zero_and_reach_their_heights() -> None:
    drawing = chart("bars", [Bars("a", (Bar(0, 1, 10, "up"), Bar(1, 2, -10, "down")))], X, Y)
    rects = re.findall(r'<rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"><title>(up|down)', drawing)
    (up, height, _), (down, depth, _) = rects
    assert float(up) + float(height) == pytest.approx(float(down), abs=0.2)
    assert float(height) == pytest.approx(float(depth), abs=0.2)


def test_steps_go_on_to_the_next_point_before_they_rise() -> None:
    points = (Point(0, 1), Point(1, 2), Point(2, 3))
    drawing = chart("s", [Series("a", points, style="steps")], X, Y)
    (path,) = re.findall(r'<path class="line series-0" stroke-dasharray="" d="M(.*?)"', drawing)
    corners = [tuple(map(float, corner.split())) for corner in path.split("L")]
    for before, after in pairwise(corners):
        assert before[0] == after[0] or before[1] == after[1]


def test_an_interval_beyond_the_limits_is_cut_off_there() -> None:
    drawing = chart("i", [Series("a", (Point(0, 0.5, 0, 1), Point(1, 0.5)))], X, Axis("y", limits=(0.4, 0.6)))
    ((y1, y2),) = re.findall(r'class="whisker series-0" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)" y2="([\d.]+)"', drawing)
    assert {float(y1), float(y2)} == {FULL.top, FULL.bottom}


def test_every_point_of_a_crowd_has_its_text_and_no_mark_of_its_own_colour() -> None:
    drawing = chart("c", [Series("a", (Point(0, 1, text="<first>"), Point(1, 2, text="second")), style="crowd")], X, Y)
    assert re.findall(r"<title>(.*?)</title>", drawing) == ["&lt;first&gt;", "second"]
    assert drawing.count("series-0") == 1


def test_labels_do_not_lie_on_each_other() -> None:
    points = (*(Point(1, 0.5, label=f"name {i}") for i in range(5)), Point(2, 0.6, label="far"))
    drawing = chart("l", [Series("a", points)], X, Axis("y", kind="percent"))
    texts = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)">', drawing)
    assert len(texts) == len(points)
    assert len({(anchor, y) for _, y, anchor in texts}) == len(points)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((20, 100), ["20", "50", "100"]),
        ((1e5, 1.1e7), ["100 k", "1 M", "10 M"]),
        ((1e6, 1e6), ["800 k", "1 M", "1.2 M"]),
        ((5e6, 7e6), ["4 M", "6 M", "8 M"]),
    ],
)
def test_a_logarithmic_axis_has_the_ticks_that_a_scale_is_read_off_by(values: tuple[float, ...], ticks: list[str]):
    points = tuple(Point(value, 0.5) for value in values)
    drawing = chart("l", [Series("a", points)], Axis("x", kind="logarithmic"), Y)
    assert re.findall(r'text-anchor="middle">(.*?)</text>', drawing)[: len(ticks)] == ticks


def test_a_legend_names_every_layer_with_a_name() -> None:
    layers = [Series("", (Point(0, 0),)), Guide("no change", (0, 0), (1, 1)), Bars("bars", ()), Series("line", ())]
    assert [name for _, name in legend(layers)] == ["bars", "line"]


def test_panels_share_the_upward_scale() -> None:
    low, high = [Series("", (Point(0, 0),), style="crowd")], [Series("", (Point(0, 10),), style="crowd")]
    drawing = panels("both", [("low", low), ("high", high)], X, Y)
    ticks = [re.findall(r'text-anchor="end">(.*?)</text>', panel) for panel in drawing.split("<svg")[1:]]
    assert ticks[0] == ticks[1]
    assert drawing.count('role="img"') == 1


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty: expected at least one point, got none"):
        chart("empty", [Series("a", ())], X, Y)


@pytest.mark.parametrize(("value", "text"), [(20_000, "20 k"), (5_490_000, "5.49 M"), (100, "100"), (-0.05, "−0.05")])
def test_numbers_are_written_in_short(value: float, text: str) -> None:
    assert si(value) == text
