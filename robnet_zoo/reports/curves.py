"""The charts of measured accuracies that reports share: against the number of parameters, and against anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robnet_zoo.core.statistics import Interval
from robnet_zoo.reports.elements import Chart, Column, Table, TableCell, TableRow
from robnet_zoo.reports.svg import Axis, Point, Series, chart, legend

ACCURACY = Axis("accuracy, %", kind="percent")
MOST = 16  # models whose lines or names a drawing can hold; more hide each other


@dataclass(frozen=True)
class MeasuredPoint:
    """An accuracy at an x.

    Args:
        x_text: x as it is read.
        accuracy: the accuracy as it stands in a table.
        interval: its interval, as shares of 1.
    """

    model: str
    x: float
    x_text: str
    accuracy: TableCell
    interval: Interval

    @property
    def y(self) -> float:
        """Return the accuracy, as a share of 1."""
        assert isinstance(self.accuracy.value, float)
        return self.accuracy.value

    def drawn(self, where: str, *, label: bool = False) -> Point:
        """Return the point of a chart. where: x in words. label: whether the model's name stands beside it."""
        text = f"{self.model}, {where}: {self.accuracy.text} % ({self.accuracy.detail})"
        return Point(self.x, self.y, *self.interval, self.model if label else "", text)


@dataclass(frozen=True)
class PrintedPoint:
    """A figure of the paper: parameters in millions, accuracy in percent."""

    model: str
    parameters: float
    percent: float

    def drawn(self) -> Point:
        """Return the point of a chart."""
        text = f"{self.model}: {self.percent:.2f} %, {self.parameters:.2f} M parameters, printed in the paper"
        return Point(1e6 * self.parameters, self.percent / 100, label=self.model, text=text)


def scatter(
    attack: str,
    conditions: str,
    points: Sequence[MeasuredPoint],
    printed: Sequence[PrintedPoint] = (),
    *,
    number: int = 0,
    scale: str = "",
) -> Chart:
    """Draw accuracies under an attack against the number of parameters (figure 1 of the paper).

    Args:
        conditions: what else was the same for all points.
        printed, number: the paper's figures beside them, and the number of their table.
        scale: stands below the figures.
    """
    title = f"Robust accuracy against parameters: {attack}, {conditions}"
    named = _most_accurate(points)
    marks = tuple(p.drawn(f"{p.x_text} parameters", label=p.model in named) for p in points)
    layers = [Series("measured here, 95 % interval", marks)]
    if printed:
        layers.append(
            Series(f"printed in the paper, table {number}", tuple(p.drawn() for p in printed), style="printed")
        )
    x = Axis("parameters, logarithmic", kind="logarithmic")
    drawing = chart(title, layers, x, ACCURACY)
    table = _with_printed(points, printed, attack) if printed else _sizes(points, attack)
    return Chart(title, drawing, legend(layers), Table(title, *table, scale=scale, sortable=False))


def _sizes(points: Sequence[MeasuredPoint], attack: str) -> tuple[tuple[Column, ...], tuple[TableRow, ...]]:
    """Return the columns and rows of a scatter's table."""
    rows = (TableRow((TableCell(point.model), TableCell(point.x_text, point.x), point.accuracy)) for point in points)
    return (Column("model", numeric=False), Column("parameters"), Column(attack)), tuple(rows)


def _with_printed(
    points: Sequence[MeasuredPoint], printed: Sequence[PrintedPoint], attack: str
) -> tuple[tuple[Column, ...], tuple[TableRow, ...]]:
    """Return them with the paper's figures below."""
    rows = []
    for point in points:
        cells = (TableCell(point.model), TableCell("measured here"), TableCell(point.x_text, point.x), point.accuracy)
        rows.append(TableRow(cells, "measured here"))
    for figure in printed:
        size, accuracy = TableCell(f"{figure.parameters:.2f} M"), TableCell(f"{figure.percent:.2f}")
        rows.append(TableRow((TableCell(figure.model), TableCell("paper"), size, accuracy), "paper"))
    heads = (Column("model", numeric=False), Column("figures", numeric=False), Column("parameters"), Column(attack))
    return heads, tuple(rows)


def _most_accurate(points: Sequence[MeasuredPoint]) -> set[str]:
    """Return the MOST models whose least accurate point is highest, or all if there are no more."""
    least: dict[str, float] = {}
    for point in points:
        least[point.model] = min(point.y, least.get(point.model, 1.0))
    return set(sorted(least, key=lambda model: -least[model])[:MOST])


def lines(title: str, points: Sequence[MeasuredPoint], axis: Axis, x_name: str, *, scale: str = "") -> Chart | None:
    """Draw a line for each model, if one has points at two x; of more than MOST models, for the most accurate.

    Args:
        x_name: x in a word, the head of the table's column.
        scale: stands below the figures.
    """
    by_model: dict[str, dict[float, MeasuredPoint]] = {}
    for point in points:
        by_model.setdefault(point.model, {}).setdefault(point.x, point)
    drawn, layers, rows = _most_accurate(points), list[Series](), list[TableRow]()
    for model, by_x in by_model.items():
        ordered = [by_x[x] for x in sorted(by_x)]
        if model in drawn:
            marks = tuple(point.drawn(f"{x_name} {point.x_text}") for point in ordered)
            layers.append(Series(model, marks, style="joined"))
        rows += [TableRow((TableCell(model), TableCell(point.x_text, point.x), point.accuracy)) for point in ordered]
    if len(by_model) > MOST:
        title += f"; the {MOST} most accurate of {len(by_model)} models are drawn, the figures are of all"
    if not any(len(series.points) > 1 for series in layers):
        return None
    ticks = tuple(dict.fromkeys((point.x, f"{point.x:g}") for point in sorted(points, key=lambda point: point.x)))
    drawing = chart(title, layers, Axis(axis.label, axis.ticks or ticks, axis.kind), ACCURACY)
    heads = (Column("model", numeric=False), Column(x_name), Column("accuracy"))
    return Chart(title, drawing, legend(layers), Table(title, heads, tuple(rows), scale=scale, sortable=False))
