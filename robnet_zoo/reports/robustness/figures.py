"""Charts as SVG that takes its colours from the page; whatever distinguishes two series has a shape as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 388.0, 24.0, 246.0  # of the plotting area
COLOURS = 6  # series-0 ... of the style sheet
DASHES = ("", "6 3", "2 3", "8 3 2 3")
LETTER = 6.1  # width of a letter of a label, about
LINE = 13.0  # height of a label

NEAR = tuple((right, down, True) for down in (4, -7, 15) for right in (True, False))  # places of a label
FAR = tuple((right, down, False) for down in (40, -36, 56, -52, 72, -68, 88, -84) for right in (False, True))

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """y, low, high: shares of 1. label: written beside the point if there is room. text: shown on hovering."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    text: str = ""


@dataclass(frozen=True)
class Series:
    """Points that belong together. joined: by a line. printed: figures of the paper, drawn hollow."""

    name: str
    points: tuple[Point, ...]
    joined: bool = False
    printed: bool = False


@dataclass(frozen=True)
class Axis:
    """label: what x is. ticks: (value, text), by default chosen. logarithmic: for values above 0."""

    label: str
    ticks: tuple[tuple[float, str], ...] = ()
    logarithmic: bool = False


def chart(title: str, series: Sequence[Series], axis: Axis) -> Markup:
    """Accuracy in percent against x. Raises ValueError without a point."""
    points = [point for one in series for point in one.points]
    if not points:
        raise ValueError(f"{title}: expected at least one point, got none")
    y, y_ticks = _shares([share for p in points for share in (p.y, p.low, p.high) if share is not None])
    x, x_ticks = _values([p.x for p in points], axis)
    parts = [_frame(axis, x, x_ticks, y, y_ticks)]
    boxes: list[Box] = []
    drawn = [(index, one) for index, one in enumerate(series)]
    for index, one in sorted(drawn, key=lambda item: not item[1].printed):  # ours above the paper's
        parts += [_line(one, index, x, y)] if one.joined else []
        for point in one.points:
            parts.append(_point(point, one, index, x, y))
            boxes.append(_around(x(point.x), y(point.y)))
    for _, one in sorted(drawn, key=lambda item: item[1].printed):  # ours find room first
        for point in sorted(one.points, key=lambda point: -point.y):
            parts.append(_label(point, one, x, y, boxes))
    template = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">{}</svg>'
    return Markup(template).format(f"{WIDTH:g}", f"{HEIGHT:g}", title, Markup("").join(parts))


def swatch(index: int, *, joined: bool = False, printed: bool = False) -> Markup:
    """The mark of a series, for a legend."""
    line = Markup('<path class="{}" stroke-dasharray="{}" d="M1 7H33"/>').format(*_strokes(index)) if joined else ""
    mark = _mark(17, 7, index, printed=printed)
    template = '<svg viewBox="0 0 34 14" width="34" height="14" aria-hidden="true">{}{}</svg>'
    return Markup(template).format(line, mark)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _frame(
    axis: Axis, x: Scale, x_ticks: Sequence[tuple[float, str]], y: Scale, y_ticks: Sequence[tuple[float, str]]
) -> Markup:
    grid = Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>')
    left = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    mark = Markup('<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    below = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    parts = []
    for value, text in y_ticks:
        parts += [grid.format(LEFT, RIGHT, y(value)), left.format(LEFT - 6, y(value) + 4, text)]
    for value, text in x_ticks:
        parts += [mark.format(x(value), BOTTOM, BOTTOM + 4), below.format(x(value), BOTTOM + 17, text)]
    parts += [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, RIGHT, BOTTOM, BOTTOM),
        Markup('<text class="title" x="{}" y="12">{}</text>').format(2, "accuracy, %"),
        Markup('<text class="title" x="{}" y="{}" text-anchor="end">{}</text>').format(RIGHT, HEIGHT - 8, axis.label),
    ]
    return Markup("").join(parts)


def _line(series: Series, index: int, x: Scale, y: Scale) -> Markup:
    path = "M" + "L".join(f"{x(point.x):.1f} {y(point.y):.1f}" for point in series.points)
    return Markup('<path class="{}" stroke-dasharray="{}" d="{}"/>').format(*_strokes(index), path)


def _strokes(index: int) -> tuple[str, str]:
    """Class and dashes of a series' line: both change with the series, the dashes with every round of colours too."""
    return f"line series-{index % COLOURS}", DASHES[(index + index // COLOURS) % len(DASHES)]


def _point(point: Point, series: Series, index: int, x: Scale, y: Scale) -> Markup:
    whisker = Markup("")
    if point.low is not None and point.high is not None:
        template = '<line class="whisker series-{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>'
        whisker = Markup(template).format(index % COLOURS, x(point.x), y(point.low), y(point.high))
    mark = _mark(x(point.x), y(point.y), index, printed=series.printed)
    return Markup("<g><title>{}</title>{}{}</g>").format(point.text or point.label or series.name, whisker, mark)


def _mark(x: float, y: float, index: int, *, printed: bool) -> Markup:
    if printed:
        return Markup('<path class="printed" d="{}"/>').format(f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z")
    shape = (index + index // COLOURS) % 5
    if shape == 0:
        return Markup('<circle class="mark series-{}" cx="{:.1f}" cy="{:.1f}" r="4.2"/>').format(index % COLOURS, x, y)
    path = {
        1: f"M{x - 3.8:.1f} {y - 3.8:.1f}h7.6v7.6h-7.6z",
        2: f"M{x:.1f} {y - 5:.1f}l4.8 8.4h-9.6z",
        3: f"M{x:.1f} {y + 5:.1f}l4.8 -8.4h-9.6z",
        4: f"M{x:.1f} {y - 5.2:.1f}l5.2 5.2l-5.2 5.2l-5.2 -5.2z",
    }[shape]
    return Markup('<path class="mark series-{}" d="{}"/>').format(index % COLOURS, path)


def _label(point: Point, series: Series, x: Scale, y: Scale, boxes: list[Box]) -> Markup:
    """The label at the first place around the point that is free.

    Where none is free near by, ours stands farther away, with a line to its point; the paper's is left out.
    """
    if not point.label:
        return Markup("")
    wide, at_x, at_y = LETTER * len(point.label), x(point.x), y(point.y)
    for right, down, near in (*NEAR, *(() if series.printed else FAR)):
        left = at_x + 8 if right else at_x - 8 - wide
        base = at_y + down
        box = (left, base - LINE + 3, left + wide, base + 3)
        inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= TOP - LINE and box[3] <= BOTTOM
        if inside and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            leader = Markup("")
            if not near:
                template = '<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
                leader = Markup(template).format(at_x, at_y, left - 2 if right else left + wide + 2, base - 4)
            kind, anchor = ("name printed-name" if series.printed else "name"), ("start" if right else "end")
            template = '{}<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
            return Markup(template).format(leader, kind, left if right else left + wide, base, anchor, point.label)
    return Markup("")


def _around(x: float, y: float) -> Box:
    return (x - 5, y - 5, x + 5, y + 5)


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _shares(values: Sequence[float]) -> tuple[Scale, list[tuple[float, str]]]:
    """The vertical scale around shares of 1, and its ticks in percent."""
    low, high = 100 * min(values), 100 * max(values)
    step = _step(max(high - low, 2.0))
    low, high = max(0.0, step * math.floor(low / step)), min(100.0, step * math.ceil(high / step))
    if high == low:
        low, high = (low - step, high) if high == 100 else (low, high + step)
    ticks = [low + step * i for i in range(round((high - low) / step) + 1)]
    return _linear(low / 100, high / 100, BOTTOM, TOP), [(tick / 100, f"{tick:g}") for tick in ticks]


def _values(values: Sequence[float], axis: Axis) -> tuple[Scale, list[tuple[float, str]]]:
    """The horizontal scale, and as many ticks as there is room for."""
    if axis.logarithmic:
        low, high = math.log10(min(values)), math.log10(max(values))
        margin = max(0.08 * (high - low), 0.12)
        scale = _logarithmic(low - margin, high + margin, LEFT, RIGHT)
        low, high = 10 ** (low - margin), 10 ** (high + margin)
        ticks = axis.ticks or tuple((value, si(value)) for value in _decades(low, high))
    else:
        low, high = min(values), max(values)
        margin = max(0.06 * (high - low), 1e-9)
        scale = _linear(low - margin, high + margin, LEFT, RIGHT)
        ticks = axis.ticks or tuple((value, si(value)) for value in values)
    free, shown = -math.inf, []
    for value, text in sorted(ticks):
        half = LETTER * len(text) / 2
        if low <= value <= high and scale(value) - half >= free:
            shown.append((value, text))
            free = scale(value) + half + LETTER
    return scale, shown


def si(value: float) -> str:
    """`20 k`, `5.49 M`, `100`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:g}"


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values; over more than two decades, powers of ten alone."""
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for factor in factors if low <= (value := factor * 10.0**power) <= high]


def _step(span: float) -> float:
    """A round step that divides a span in at most seven."""
    power = 10.0 ** math.floor(math.log10(span / 7))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 7)


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    inner = _linear(low, high, start, end)
    return lambda value: inner(math.log10(value))
