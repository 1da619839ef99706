"""The figures among the plans, drawn: robust accuracy against parameters (figure 1), against steps (figure 10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from robnet_zoo.attacks import AnyAttack
from robnet_zoo.core.statistics import IntervalEstimate
from robnet_zoo.reports.robustness.blocks import Cell, Chart, Column, Row, Table
from robnet_zoo.reports.robustness.figures import Axis, Point, Series, chart, swatch
from robnet_zoo.reproduce.order import OutcomeMatrix, accuracy, outcomes
from robnet_zoo.reproduce.result import ModelResult, PartResult


def against_parameters(part: PartResult, attack: str, *, note: str) -> list[Chart]:
    """A point a row that was measured in a white box; none of fewer than two. note: stands below the figures."""
    points, rows = [], []
    for label, models, of in _measured(part, attack):
        count, estimate = models[0].parameters, accuracy(of)
        if not count:  # a foreign file may name none of its tensors as such
            continue
        points.append(_point(count, estimate, f"{label}, {count:,} parameters", label=label))
        rows.append(Row((Cell(label), Cell(f"{count:,}", count), cell(estimate))))
    if len(points) < 2:
        return []
    series = [Series("measured here, 95 % interval", tuple(points))]
    axis = Axis("parameters, logarithmic", logarithmic=True)
    heads = (Column("model", numeric=False), Column("parameters"), Column(attack))
    title = f"Robust accuracy against parameters: {attack}, {part.part}"
    return [_chart(Table(title, heads, tuple(rows), note), series, axis)]


def against_steps(part: PartResult, *, note: str) -> list[Chart]:
    """A chart a family of attacks that differ in nothing but steps, with a line a row; none of one attack alone."""
    families = defaultdict[str, dict[int, AnyAttack]](dict)
    for attack in part.protocol.attacks:
        if (family := attack.steps_family) is not None:
            families[family.key][family.steps] = attack
    charts = [_steps_chart(part, by_steps, note) for by_steps in families.values() if len(by_steps) > 1]
    return [chart for chart in charts if chart is not None]


def _steps_chart(part: PartResult, by_steps: Mapping[int, AnyAttack], note: str) -> Chart | None:
    series, rows = [], []
    for label in dict.fromkeys(model.label for model in part.models):
        points = []
        for steps in sorted(by_steps):
            for _, _, of in _measured(part, by_steps[steps].title, label):
                estimate = accuracy(of)
                points.append(_point(steps, estimate, f"{label}, {steps} steps"))
                rows.append(Row((Cell(label), Cell(str(steps), steps), cell(estimate))))
        if points:
            series.append(Series(label, tuple(points), joined=True))
    if not series:
        return None
    axis = Axis("steps, logarithmic", tuple((steps, str(steps)) for steps in sorted(by_steps)), logarithmic=True)
    heads = (Column("model", numeric=False), Column("steps"), Column("accuracy"))
    kind = next(iter(by_steps.values())).kind.replace("_", "-").upper()
    title = f"Robust accuracy against steps of {kind}: {part.part}"
    return _chart(Table(title, heads, tuple(rows), note), series, axis)


def cell(estimate: IntervalEstimate) -> Cell:
    """A share in percent, with its interval."""
    return Cell(f"{100 * estimate.value:.1f}", estimate.value, f"{estimate.interval:.1%}")


def _measured(
    part: PartResult, attack: str, label: str | None = None
) -> Iterator[tuple[str, list[ModelResult], OutcomeMatrix]]:
    """(label, its trainings, their outcomes) of rows that were attacked so in a white box."""
    for name in dict.fromkeys(model.label for model in part.models) if label is None else (label,):
        models = [model for model in part.models if model.label == name and model.source is None]
        of = outcomes(models, attack)
        if of is not None:
            yield name, models, of


def _point(x: float, estimate: IntervalEstimate, text: str, *, label: str = "") -> Point:
    shown = cell(estimate)
    return Point(x, estimate.value, *estimate.interval, label, f"{text}: {shown.text} % ({shown.detail})")


def _chart(table: Table, series: list[Series], axis: Axis) -> Chart:
    legend = tuple((swatch(index, joined=one.joined), one.name) for index, one in enumerate(series))
    return Chart(table.title, chart(table.title, series, axis), legend, table)
