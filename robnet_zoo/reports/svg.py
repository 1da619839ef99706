"""Charts as SVG that takes its colours from the page; whatever distinguishes two series has a shape as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, NamedTuple

from markupsafe import Markup

from robnet_zoo.errors import ReportError

COLOURS = 6  # series-0 ... of the style sheet
DASHES = ("", "6 3", "2 3", "8 3 2 3")
LETTER = 6.1  # width of a letter of a label, about
LINE = 13.0  # height of a label

NEAR = tuple((right, down, True) for down in (4, -7, 15) for right in (True, False))  # where a label may stand
FAR = tuple((right, down, False) for down in (40, -36, 56, -52, 72, -68, 88, -84) for right in (False, True))

Scale = Callable[[float], float]
Ticks = tuple[tuple[float, str], ...]  # (value, text)
Box = tuple[float, float, float, float]  # left, top, right, bottom
Style = Literal["marks", "joined", "line", "steps", "crowd", "printed"]


class Area(NamedTuple):
    """The size of a drawing and the edges of the area in which it plots."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


FULL = Area(400, 290, 38, 388, 24, 246)
PANEL = Area(200, 150, 28, 194, 20, 126)


@dataclass(frozen=True)
class Point:
    """A point and the interval of its y.

    Args:
        label: written beside the point if there is room.
        text: shown on hovering.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    text: str = ""


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Args:
        style: `marks`, marks `joined` by a line, a `line` alone, marks joined by `steps` that rise at the next point,
            a `crowd` of small marks that fade where they are many, or hollow marks for `printed` figures of the paper.
    """

    name: str
    points: tuple[Point, ...]
    style: Style = "marks"


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to a height. text: shown on hovering."""

    left: float
    right: float
    height: float
    text: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars of one colour."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Guide:
    """A straight line to compare with, and what it means, written at its start. Each end is (x, y)."""

    text: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis.

    Args:
        label: what its values are.
        ticks: by default chosen.
        kind: `logarithmic` for values above 0, `percent` for shares of 1, which are written in percent.
        limits: what is shown of it, in its values; by default all. What goes beyond is cut off there.
        upright: whether the tick labels of a horizontal axis are turned, so that all of them have room.
    """

    label: str
    ticks: Ticks = ()
    kind: Literal["linear", "logarithmic", "percent"] = "linear"
    limits: tuple[float, float] | None = None
    upright: bool = False


Layer = Series | Bars | Guide


class _Plane(NamedTuple):
    """Where values lie on a drawing."""

    area: Area
    x: Scale
    y: Scale
    x_ticks: Ticks
    y_ticks: Ticks
    upright: bool

    def within(self, y: float) -> float:
        """Return where a y lies, or the edge beyond which it would lie."""
        return min(max(self.y(y), self.area.top), self.area.bottom)


def chart(title: str, layers: Sequence[Layer], x: Axis, y: Axis, *, bare: bool = False) -> Markup:
    """Draw layers in one plane. Those of the paper lie below ours.

    Args:
        title: what a reader who does not see the drawing is told.
        bare: whether there is no frame, for values that mean nothing by themselves.

    Raises: ValueError if there is nothing to draw.
    """
    if bare and (values := _y_values(layers)):
        room = 0.04 * (max(values) - min(values)) or 1.0
        y = replace(y, limits=(min(values) - room, max(values) + room))
    plane = _plane(title, layers, x, y, FULL)
    parts = [] if bare else [_frame(plane), _axis_labels(x, y)]
    template = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">{}</svg>'
    drawn = Markup("").join((*parts, *_layers(layers, plane)))
    return Markup(template).format(f"{FULL.width:g}", f"{_height(x):g}", title, drawn)


def panels(title: str, plots: Sequence[tuple[str, Sequence[Layer]]], x: Axis, y: Axis) -> Markup:
    """Draw small charts, each with its own title and x scale, on one y scale.

    Args:
        title: what a reader who does not see the drawings is told.

    Raises: ValueError if there is nothing to draw.
    """
    bounds = _bounds([value for _, layers in plots for value in _y_values(layers)], y)
    parts = []
    for name, layers in plots:
        plane = _plane(title, layers, x, replace(y, limits=bounds), PANEL)
        head = Markup('<text class="panel-name" x="{}" y="12">{}</text>').format(2, name)
        inner = Markup("").join((head, _frame(plane), *_layers(layers, plane)))
        template = '<svg viewBox="0 0 {} {}" aria-hidden="true" class="chart">{}</svg>'
        parts.append(Markup(template).format(f"{PANEL.width:g}", f"{PANEL.height:g}", inner))
    return Markup('<div class="panels" role="img" aria-label="{}">{}</div>').format(title, Markup("\n").join(parts))


def legend(layers: Sequence[Layer]) -> tuple[tuple[Markup, str], ...]:
    """Return the mark and the name of each layer that has a name."""
    named = [(index, layer) for index, layer in enumerate(layers) if not isinstance(layer, Guide) and layer.name]
    return tuple((_swatch(layer, index), layer.name) for index, layer in named)


def _swatch(layer: Series | Bars, index: int) -> Markup:
    """Draw the mark of a layer, for a legend."""
    colour, parts = index % COLOURS, []
    if isinstance(layer, Bars):
        parts.append(Markup('<rect class="bar series-{}" x="11" y="1" width="12" height="12"/>').format(colour))
    else:
        if layer.style in ("joined", "line", "steps"):
            parts.append(
                Markup('<path class="{}" stroke-dasharray="{}" d="M1 7H33"/>').format(*_strokes(index, layer.style))
            )
        if layer.style != "line":
            parts.append(_mark(17, 7, index, layer.style))
    template = '<svg viewBox="0 0 34 14" width="34" height="14" aria-hidden="true">{}</svg>'
    return Markup(template).format(Markup("").join(parts))


def _plane(title: str, layers: Sequence[Layer], x: Axis, y: Axis, area: Area) -> _Plane:
    x_values, y_values = list(_x_values(layers)), _y_values(layers)
    if not x_values:
        raise ReportError(f"{title}: expected at least one point, got none")
    bars = any(isinstance(layer, Bars) for layer in layers)
    x_scale, x_ticks = _across(x_values, x, area, margin=0.015 if bars else 0.06)
    y_scale, y_ticks = _upward(y_values, y, area)
    return _Plane(area, x_scale, y_scale, x_ticks, y_ticks, x.upright)


def _x_values(layers: Sequence[Layer]) -> Iterator[float]:
    for layer in layers:
        if isinstance(layer, Series):
            yield from (point.x for point in layer.points)
        elif isinstance(layer, Bars):
            yield from (side for bar in layer.bars for side in (bar.left, bar.right))


def _y_values(layers: Sequence[Layer]) -> list[float]:
    values: list[float] = []
    for layer in layers:
        if isinstance(layer, Series):
            values += [y for p in layer.points for y in (p.y, p.low, p.high) if y is not None]
        elif isinstance(layer, Bars):
            values += [0.0, *(bar.height for bar in layer.bars)]
    return values


def _frame(plane: _Plane) -> Markup:
    area = plane.area
    grid = Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>')
    left = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    mark = Markup('<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    below = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    turned = Markup('<text class="tick" transform="translate({:.1f} {}) rotate(-90)" text-anchor="end">{}</text>')
    parts = []
    for value, text in plane.y_ticks:
        height = plane.y(value)
        parts += [grid.format(area.left, area.right, height), left.format(area.left - 6, height + 4, text)]
    for value, text in plane.x_ticks:
        across = plane.x(value)
        label = below.format(across, area.bottom + 17, text)
        if plane.upright:
            label = turned.format(across + 4, area.bottom + 7, text)
        parts += [mark.format(across, area.bottom, area.bottom + 4), label]
    line = Markup('<line class="axis" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    parts.append(line.format(area.left, area.right, area.bottom, area.bottom))
    if plane.y_ticks[0][0] < 0 < plane.y_ticks[-1][0]:
        parts.append(line.format(area.left, area.right, plane.y(0), plane.y(0)))
    return Markup("").join(parts)


def _axis_labels(x: Axis, y: Axis) -> Markup:
    template = '<text class="title" x="2" y="12">{}</text><text class="title" x="{}" y="{}" text-anchor="end">{}</text>'
    return Markup(template).format(y.label, f"{FULL.right:g}", f"{_height(x) - 8:g}", x.label)


def _height(x: Axis) -> float:
    """Return the height of a chart: turned tick labels take more room."""
    return FULL.height + 18 if x.upright else FULL.height


def _layers(layers: Sequence[Layer], plane: _Plane) -> Iterator[Markup]:
    """Draw what is compared with first, then the paper's figures, then ours, then labels where there is room."""
    boxes: list[Box] = []
    drawn = [(index, layer) for index, layer in enumerate(layers) if isinstance(layer, Series)]
    for index, layer in enumerate(layers):
        if isinstance(layer, Bars):
            yield _bars(layer, index, plane)
        elif isinstance(layer, Guide):
            yield _guide(layer, plane)
    for index, series in sorted(drawn, key=lambda item: item[1].style != "printed"):
        yield from _series(series, index, plane, boxes)
    for _, series in sorted(drawn, key=lambda item: item[1].style == "printed"):  # ours find room first
        for point in sorted(series.points, key=lambda point: -point.y):
            yield _label(point, series, plane, boxes)


def _series(series: Series, index: int, plane: _Plane, boxes: list[Box]) -> Iterator[Markup]:
    if series.style in ("joined", "line", "steps"):
        yield _line(series, index, plane)
    if series.style == "crowd":
        marks = Markup("").join(_crowded(point, index, plane) for point in series.points)
        many = " many" if len(series.points) > 200 else ""
        yield Markup('<g class="crowd{} series-{}">{}</g>').format(many, index % COLOURS, marks)
    elif series.style != "line":
        for point in series.points:
            yield _point(point, series, index, plane)
            x, y = plane.x(point.x), plane.y(point.y)
            boxes.append((x - 5, y - 5, x + 5, y + 5))


def _bars(layer: Bars, index: int, plane: _Plane) -> Markup:
    parts = []
    for bar in layer.bars:
        left, right, end, zero = plane.x(bar.left), plane.x(bar.right), plane.y(bar.height), plane.y(0)
        template = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        size = (max(right - left, 0.5), abs(end - zero))
        parts.append(Markup(template).format(left, min(end, zero), *size, bar.text or layer.name))
    return Markup('<g class="bar series-{}">{}</g>').format(index % COLOURS, Markup("").join(parts))


def _guide(guide: Guide, plane: _Plane) -> Markup:
    (x1, y1), (x2, y2) = ((plane.x(x), plane.within(y)) for x, y in (guide.start, guide.end))
    line = Markup('<line class="guide" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(x1, y1, x2, y2)
    text = Markup('<text class="tick" x="{:.1f}" y="{:.1f}">{}</text>').format(x1 + 22, y1 - 2, guide.text)
    return line + text


def _line(series: Series, index: int, plane: _Plane) -> Markup:
    points = [(plane.x(point.x), plane.within(point.y)) for point in series.points]
    if series.style == "steps":
        between = [(x, y) for (_, y), (x, _) in pairwise(points)]
        points = [point for pair in zip(points, [*between, points[-1]], strict=True) for point in pair]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Markup('<path class="{}" stroke-dasharray="{}" d="{}"/>').format(*_strokes(index, series.style), path)


def _strokes(index: int, style: Style) -> tuple[str, str]:
    """Return class and dashes of a line: both change with the series, the dashes of lines side by side also with every
    round of colours."""
    dashes = DASHES[(index + index // COLOURS) % len(DASHES)] if style == "joined" else ""
    return f"line series-{index % COLOURS}", dashes


def _point(point: Point, series: Series, index: int, plane: _Plane) -> Markup:
    x, whisker = plane.x(point.x), Markup("")
    if point.low is not None and point.high is not None:
        template = '<line class="whisker series-{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>'
        whisker = Markup(template).format(index % COLOURS, x, plane.within(point.low), plane.within(point.high))
    mark = _mark(x, plane.within(point.y), index, series.style)
    return Markup("<g><title>{}</title>{}{}</g>").format(point.text or point.label or series.name, whisker, mark)


def _mark(x: float, y: float, index: int, style: Style) -> Markup:
    if style == "printed":
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


def _crowded(point: Point, index: int, plane: _Plane) -> Markup:
    """Draw a small mark, whose group has the colour."""
    x, y, shape = plane.x(point.x), plane.within(point.y), (index + index // COLOURS) % 3
    r = 2.4 if plane.area is FULL else 1.8
    title = Markup("<title>{}</title>").format(point.text) if point.text else Markup("")
    if shape == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>').format(x, y, r, title)
    if shape == 1:
        template = '<rect x="{:.1f}" y="{:.1f}" width="{}" height="{}">{}</rect>'
        return Markup(template).format(x - r, y - r, 2 * r, 2 * r, title)
    return Markup('<path d="M{:.1f} {:.1f}l3 5.2h-6z">{}</path>').format(x, y - 3.2, title)


def _label(point: Point, series: Series, plane: _Plane, boxes: list[Box]) -> Markup:
    """Write the label where there is room around its point.

    Where there is none near by, ours stands farther away, with a line to its point; the paper's is left out.
    """
    if not point.label:
        return Markup("")
    area, printed = plane.area, series.style == "printed"
    wide, at_x, at_y = LETTER * len(point.label), plane.x(point.x), plane.y(point.y)
    for right, down, near in (*NEAR, *(() if printed else FAR)):
        left = at_x + 8 if right else at_x - 8 - wide
        base = at_y + down
        box = (left, base - LINE + 3, left + wide, base + 3)
        inside = box[0] >= area.left and box[2] <= area.width and box[1] >= area.top - LINE and box[3] <= area.bottom
        if inside and not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
            leader = Markup("")
            if not near:
                template = '<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
                leader = Markup(template).format(at_x, at_y, left - 2 if right else left + wide + 2, base - 4)
            kind, anchor = ("name printed-name" if printed else "name"), ("start" if right else "end")
            template = '{}<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
            return Markup(template).format(leader, kind, left if right else left + wide, base, anchor, point.label)
    return Markup("")


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _bounds(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Return the ends of a vertical axis: its limits, or round numbers around all values."""
    if axis.limits is not None:
        return axis.limits
    factor = 100 if axis.kind == "percent" else 1
    low, high = factor * min(values), factor * max(values)
    step = _step(max(high - low, 2.0) if axis.kind == "percent" else high - low)
    low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    if axis.kind == "percent":
        low, high = max(0.0, low), min(100.0, high)
        if high == low:
            low, high = (low - step, high) if high == 100 else (low, high + step)
    elif high == low:
        high = low + step
    return low / factor, high / factor


def _upward(values: Sequence[float], axis: Axis, area: Area) -> tuple[Scale, Ticks]:
    """Return the vertical scale and its ticks."""
    low, high = _bounds(values, axis)
    factor = 100 if axis.kind == "percent" else 1
    ticks = tuple((tick / factor, si(tick)) for tick in _round(factor * low, factor * high, 7 if area is FULL else 4))
    return _linear(low, high, area.bottom, area.top), axis.ticks or ticks


def _across(values: Sequence[float], axis: Axis, area: Area, *, margin: float) -> tuple[Scale, Ticks]:
    """Return the horizontal scale and as many ticks as there is room for. margin: on each side, of the span."""
    low, high = axis.limits or (min(values), max(values))
    if axis.kind == "logarithmic":
        low, high = math.log10(low), math.log10(high)
        room = max(0.08 * (high - low), 0.12)
        scale = _logarithmic(low - room, high + room, area.left, area.right)
        low, high = 10 ** (low - room), 10 ** (high + room)
        ticks = axis.ticks or tuple((value, si(value)) for value in _decades(low, high))
    else:
        room = max(margin * (high - low), 1e-9)
        low, high = low - room, high + room
        scale = _linear(low, high, area.left, area.right)
        factor = 100 if axis.kind == "percent" else 1
        chosen = _round(factor * low, factor * high, 7 if area is FULL else 4)
        ticks = axis.ticks or tuple((value / factor, si(value)) for value in chosen)
    free, shown = -math.inf, []
    for value, text in sorted(ticks):
        half = LINE / 2 - LETTER / 4 if axis.upright else LETTER * len(text) / 2
        if low <= value <= high and scale(value) - half >= free:
            shown.append((value, text))
            free = scale(value) + half + LETTER / 2
    return scale, tuple(shown)


def si(value: float) -> str:
    """Write a number in short: `20 k`, `5.49 M`, `100`, `0.05`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def _round(low: float, high: float, most: int) -> list[float]:
    """Return round numbers at equal distances between two values, at most `most` steps of them."""
    step = _step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{step * i:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two values; over more than two decades, powers of ten alone.

    Where fewer than two of them lie there, so that nobody could read off a scale, they are round numbers instead.
    """
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [value for power in powers for factor in factors if low <= (value := factor * 10.0**power) <= high]
    return values if len(values) > 1 else _round(low, high, 4)


def _step(span: float, most: int = 7) -> float:
    """Return a round step that divides a span into at most `most` steps; 1 where there is no span."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    inner = _linear(low, high, start, end)
    return lambda value: inner(math.log10(value))
