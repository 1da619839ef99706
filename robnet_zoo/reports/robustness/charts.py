"""Which figures of the documents are drawn against what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from robnet_zoo.benchmarks.result import Measurement
from robnet_zoo.reports.robustness.blocks import Cell, Chart, Column, Row, Table
from robnet_zoo.reports.robustness.entries import CLEAN, WORST, Entry, columns, groups, parameters_of
from robnet_zoo.reports.robustness.figures import Axis, Point, Series, chart, swatch
from robnet_zoo.reports.robustness.published import PublishedRow, published
from robnet_zoo.reports.robustness.tables import accuracy


class _Drawn(NamedTuple):
    """A measured figure at an x."""

    entry: Entry
    x: float
    shown: str  # x as it is read
    measurement: Measurement


def against_parameters(entries: Sequence[Entry]) -> list[Chart]:
    """Robust accuracy against the number of parameters (figure 1 of the paper), a chart for each data.

    Of several eps, the one with most points.
    """
    charts = []
    sized = [entry for entry in entries if entry.result.model.parameters]
    for of_data in groups(sized, lambda entry: entry.data).values():
        scatters = [_Scatter.of(members) for members in groups(of_data, lambda entry: entry.conditions).values()]
        fullest = max(scatters, key=lambda scatter: scatter.size)
        if fullest.size > 1:
            charts.append(fullest.chart())
    return charts


class _Scatter(NamedTuple):
    """Ours and the paper's figures under one attack, against parameters. number: of the paper's table."""

    attack: str
    ours: list[_Drawn]
    number: int
    printed: list[tuple[PublishedRow, float]]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> _Scatter:
        """What documents of the same data and eps hold under the strongest attack."""
        name = _strongest(entries)
        ours = [
            _Drawn(entry, float(count), f"{count:,}", entry.measurements[name])
            for entry in entries
            if name in entry.measurements and (count := entry.result.model.parameters)
        ]
        return cls(name, ours, *_printed(ours, name))

    @property
    def size(self) -> int:
        return len(self.ours) + len(self.printed)

    def chart(self) -> Chart:
        """The chart, if there is a figure of ours."""
        title = f"{self.attack}, {self.ours[0].entry.conditions}"
        series = [Series("measured here, 95 % interval", tuple(_point(one, label=True) for one in self.ours))]
        if self.printed:
            points = tuple(_printed_point(row, value) for row, value in self.printed)
            series.append(Series(f"printed in the paper, table {self.number}", points, printed=True))
        axis = Axis("parameters, logarithmic", logarithmic=True)
        drawing = chart(f"Robust accuracy against parameters: {title}", series, axis)
        legend = tuple((swatch(index, printed=one.printed), one.name) for index, one in enumerate(series))
        return Chart(title, drawing, legend, self.table(title))

    def table(self, title: str) -> Table:
        """The points as figures."""
        rows = []
        for one in self.ours:
            cells = (Cell(one.entry.model), Cell("measured here"), Cell(one.shown), accuracy(one.measurement))
            rows.append(Row(cells, "measured here"))
        for row, value in self.printed:
            parameters = Cell(f"{row.parameters:.2f} M")
            rows.append(Row((Cell(row.model), Cell("paper"), parameters, Cell(f"{value:.2f}")), "paper"))
        heads = (Column("model", numeric=False), Column("figures", numeric=False), Column("parameters"))
        return Table(title, (*heads, Column(self.attack)), tuple(rows), sortable=False)


def against_steps(entries: Sequence[Entry]) -> list[Chart]:
    """Robust accuracy against the number of steps (figure 10), for each data, eps and family of attacks."""
    drawn: list[tuple[str, _Drawn]] = []
    for entry in entries:
        for name, attack in entry.attacks.items():
            if (family := attack.steps_family) is not None and name in entry.measurements:
                parameters = parameters_of(attack)
                others = ", ".join(f"{key} {parameters[key]}" for key in parameters if key not in ("kind", "steps"))
                title = f"{attack.kind.replace('_', '-').upper()} ({others}), {entry.conditions}"
                drawn.append((title, _Drawn(entry, float(family.steps), str(family.steps), entry.measurements[name])))
    charts = []
    for title, members in groups(drawn, lambda item: item[0]).items():
        axis = Axis("steps, logarithmic", logarithmic=True)
        charts += _lines("Robust accuracy against steps", title, [one for _, one in members], axis, "steps")
    return charts


def against_eps(entries: Sequence[Entry]) -> list[Chart]:
    """Accuracy against eps for models measured at several, a chart for each data and attack; eps 0 is no attack."""
    drawn: list[tuple[str, _Drawn]] = []
    for entry in entries:
        protocol = entry.result.protocol
        titles = ", ".join(sorted(attack.title for attack in protocol.attacks))
        for name, measurement in entry.measurements.items():
            if name != CLEAN:
                title = f"{WORST} of {titles}" if name == WORST else measurement.attack
                one = _Drawn(entry, 255 * protocol.eps_value, protocol.eps, measurement)
                drawn.append((f"{title}, {entry.data}", one))
    charts = []
    for title, members in groups(drawn, lambda item: item[0]).items():
        of_model = groups((one for _, one in members), _model).values()
        several = [lines for lines in of_model if len({one.x for one in lines}) > 1]
        points = [one for lines in several for one in (*_unattacked(lines[0].entry), *lines)]
        ticks = tuple(dict.fromkeys((one.x, f"{one.x:g}") for one in points))
        charts += _lines("Accuracy against eps", title, points, Axis("eps, in 255ths", ticks), "eps")
    return charts


def _unattacked(entry: Entry) -> list[_Drawn]:
    return [_Drawn(entry, 0.0, "0", entry.measurements[CLEAN])] if CLEAN in entry.measurements else []


def _lines(what: str, title: str, drawn: Iterable[_Drawn], axis: Axis, x_name: str) -> list[Chart]:
    """One chart with a line for each model, if a model has points at two places."""
    series, rows = [], []
    for model, members in groups(drawn, _model).items():
        at = {one.x: one for one in reversed(list(members))}
        ordered = [at[x] for x in sorted(at)]
        series.append(Series(model, tuple(_point(one) for one in ordered), joined=True))
        rows += [Row((Cell(model), Cell(one.shown), accuracy(one.measurement))) for one in ordered]
    if not any(len(one.points) > 1 for one in series):
        return []
    ticks = axis.ticks or tuple((point.x, f"{point.x:g}") for one in series for point in one.points)
    legend = tuple((swatch(index, joined=True), one.name) for index, one in enumerate(series))
    heads = (Column("model", numeric=False), Column(x_name), Column("accuracy"))
    drawing = chart(f"{what}: {title}", series, replace(axis, ticks=tuple(dict.fromkeys(ticks))))
    return [Chart(title, drawing, legend, Table(title, heads, tuple(rows), sortable=False))]


def _strongest(entries: Sequence[Entry]) -> str:
    """The column to draw: of those that most documents have, that with the most steps, else the worst case."""

    def rank(name: str) -> tuple[int, int, bool]:
        attacks = [entry.attacks[name] for entry in entries if name in entry.attacks]
        families = [family for attack in attacks if (family := attack.steps_family) is not None]
        steps = max((family.steps for family in families), default=0)
        return sum(name in entry.measurements for entry in entries), steps, name == WORST

    return max((name for name in columns(entries) if name != CLEAN), key=rank, default="")


def _printed(drawn: Sequence[_Drawn], name: str) -> tuple[int, list[tuple[PublishedRow, float]]]:
    """What the paper printed for the same attack under the same conditions: a table's number, (row, percent) of it.

    Of several tables, the one with most models.
    """
    number, best = 0, list[tuple[PublishedRow, float]]()
    entries = [one.entry for one in drawn]
    for table in published().tables:
        for index, column in enumerate(table.columns):
            attacks = [entry.attacks[name] for entry in entries if name in entry.attacks]
            fits = all(map(table.fits, (entry.result for entry in entries))) and all(map(column.fits, attacks))
            rows = [(row, row.values[index]) for row in table.rows if row.parameters is not None]
            if attacks and len(attacks) == len(entries) and fits and len(rows) > len(best):
                number, best = table.number, rows
    return number, best


def _printed_point(row: PublishedRow, percent: float) -> Point:
    text = f"{row.model}: {percent:.2f} %, {row.parameters:.2f} M parameters, printed in the paper"
    return Point(1e6 * (row.parameters or 0), percent / 100, label=row.model, text=text)


def _point(one: _Drawn, *, label: bool = False) -> Point:
    cell = accuracy(one.measurement)
    low, high = one.measurement.interval
    text = f"{one.entry.model}, {one.shown}: {cell.text} % ({cell.detail})"
    return Point(one.x, one.measurement.accuracy, low, high, one.entry.model if label else "", text)


def _model(one: _Drawn) -> str:
    return one.entry.model
