"""The charts of results documents: accuracy against the number of parameters, steps, and eps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from robnet_zoo.benchmarks.result import Measurement
from robnet_zoo.reports.curves import MeasuredPoint, PrintedPoint, lines, scatter
from robnet_zoo.reports.elements import Chart
from robnet_zoo.reports.robustness.labelled import (
    CLEAN,
    WORST,
    LabelledResult,
    after,
    columns,
    groups,
    parameters_of,
)
from robnet_zoo.reports.robustness.published import published
from robnet_zoo.reports.robustness.tables import accuracy
from robnet_zoo.reports.svg import Axis


def against_parameters(entries: Sequence[LabelledResult]) -> list[Chart]:
    """Draw robust accuracy against the number of parameters, a chart for each data.

    Of several eps, the one with most points is drawn.
    """
    charts = []
    sized = [entry for entry in entries if entry.result.model.parameters]
    for members in groups(sized, lambda entry: entry.data).values():
        conditions = groups(members, lambda entry: entry.conditions).values()
        fullest = max((_Scatter.from_documents(alike) for alike in conditions), key=lambda drawn: drawn.size)
        if fullest.size > 1:
            charts.append(fullest.chart())
    return charts


def against_steps(entries: Sequence[LabelledResult]) -> list[Chart]:
    """Draw robust accuracy against the number of steps (figure 10), for each data, eps and family of attacks."""
    by_title: dict[str, list[MeasuredPoint]] = {}
    for entry in entries:
        for name, attack in entry.attacks.items():
            if (family := attack.steps_family) is not None and name in entry.measurements:
                parameters = parameters_of(attack)
                others = ", ".join(f"{key} {parameters[key]}" for key in parameters if key not in ("kind", "steps"))
                point = _point(entry, family.steps, str(family.steps), entry.measurements[name])
                kind = after(f"{attack.kind.replace('_', '-').upper()} ({others})", entry.before(name))
                title = f"Robust accuracy against steps: {kind}, {entry.conditions}"
                by_title.setdefault(title, []).append(point)
    axis = Axis("steps, logarithmic", kind="logarithmic")
    drawn = (lines(title, points, axis, "steps") for title, points in by_title.items())
    return [chart for chart in drawn if chart is not None]


def against_eps(entries: Sequence[LabelledResult]) -> list[Chart]:
    """Draw accuracy against eps for models measured at several, a chart for each data and attack.

    At eps 0 stands the accuracy without an attack.
    """
    by_title: dict[str, list[tuple[LabelledResult, MeasuredPoint]]] = {}
    for entry in entries:
        protocol = entry.result.protocol
        titles = ", ".join(sorted(after(attack.title, protocol.before(attack.title)) for attack in protocol.attacks))
        for name, measurement in entry.measurements.items():
            if name != CLEAN:
                own = after(measurement.attack, entry.before(name))
                title = f"{WORST} of {titles}" if name == WORST else own
                title += "" if entry.norms == ("linf",) else f" ({', '.join(entry.norms)})"
                point = _point(entry, _scale(entry) * protocol.eps_value, protocol.eps, measurement)
                by_title.setdefault(f"Accuracy against eps: {title}, {entry.data}", []).append((entry, point))
    charts = []
    for title, members in by_title.items():
        points: list[MeasuredPoint] = []
        for same_model in groups(members, lambda member: member[0].model).values():
            if len({point.x for _, point in same_model}) > 1:
                points += [*_unattacked(same_model[0][0]), *(point for _, point in same_model)]
        in_levels = _scale(members[0][0]) > 1  # all members are of one norm
        chart = lines(title, points, Axis("eps, in 255ths" if in_levels else "eps, in image units"), "eps")
        charts += [chart] if chart is not None else []
    return charts


def _scale(entry: LabelledResult) -> int:
    """Return what eps is multiplied by for its axis: levels of a pixel in l-infinity, image units in other norms."""
    return 255 if entry.norms == ("linf",) else 1


def _unattacked(entry: LabelledResult) -> list[MeasuredPoint]:
    return [_point(entry, 0, "0", entry.measurements[CLEAN])] if CLEAN in entry.measurements else []


class _Scatter(NamedTuple):
    """Accuracies under the strongest attack of some documents, and the paper's with the number of their table."""

    attack: str
    conditions: str
    points: list[MeasuredPoint]
    number: int
    printed: list[PrintedPoint]

    @classmethod
    def from_documents(cls, entries: Sequence[LabelledResult]) -> _Scatter:
        """Take what documents of the same data and eps hold."""
        name = _strongest(entries)
        measured = [entry for entry in entries if name in entry.measurements]
        points = [
            _point(entry, count, f"{count:,}", entry.measurements[name])
            for entry in measured
            if (count := entry.result.model.parameters)
        ]
        return cls(name, entries[0].conditions, points, *_printed(measured, name))

    @property
    def size(self) -> int:
        return len(self.points) + len(self.printed)

    def chart(self) -> Chart:
        return scatter(self.attack, self.conditions, self.points, self.printed, number=self.number)


def _strongest(entries: Sequence[LabelledResult]) -> str:
    """Return the column to draw: of those of most documents, that with most steps, else the worst case."""

    def rank(name: str) -> tuple[int, int, bool]:
        attacks = [entry.attacks[name] for entry in entries if name in entry.attacks]
        families = [family for attack in attacks if (family := attack.steps_family) is not None]
        steps = max((family.steps for family in families), default=0)
        return sum(name in entry.measurements for entry in entries), steps, name == WORST

    return max((name for name in columns(entries) if name != CLEAN), key=rank, default="")


def _printed(entries: Sequence[LabelledResult], name: str) -> tuple[int, list[PrintedPoint]]:
    """Return the paper's figures for the same attack under the same conditions, and the number of their table.

    There are none for an attack that got only what others left, as the paper's attacks never do. Of several tables,
    the one with most models is taken.
    """
    number, best = 0, list[PrintedPoint]()
    attacks = [entry.attacks[name] for entry in entries if name in entry.attacks]
    if not attacks or len(attacks) < len(entries) or any(entry.before(name) for entry in entries):
        return number, best
    for table in published().tables:
        for index, column in enumerate(table.columns):
            if all(table.fits(entry.result) for entry in entries) and all(map(column.fits, attacks)):
                sized = ((row, row.parameters) for row in table.rows)
                printed = [PrintedPoint(row.model, size, row.values[index]) for row, size in sized if size is not None]
                if len(printed) > len(best):
                    number, best = table.number, printed
    return number, best


def _point(entry: LabelledResult, x: float, x_text: str, measurement: Measurement) -> MeasuredPoint:
    return MeasuredPoint(entry.model, float(x), x_text, accuracy(measurement), measurement.interval)
