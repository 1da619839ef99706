"""What each precision of an exported file loses against the model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.reports.robustness.blocks import EMPTY, Cell, Column, Row, Table
from robnet_zoo.reports.robustness.entries import WORST, Entry, columns, groups
from robnet_zoo.reports.robustness.tables import accuracy, signed

ORDER = ("torch", "fp32", "fp16", "int8")


def precisions(entries: Sequence[Entry]) -> list[Table]:
    """For each model and its files, measured alike: a row a precision, a column an attack, and what was lost in points.

    The loss is against torch, or against the file in fp32 where torch was not measured.
    """
    found = []
    whole = [entry for entry in entries if entry.whole]
    for members in groups(whole, _measured_alike).values():
        of = {precision(entry): entry for entry in reversed(members)}
        rows = [(name, of[name]) for name in ORDER if name in of]
        if len(rows) > 1:
            found.append(_table(rows))
    return found


def precision(entry: Entry) -> str:
    """`torch`, or the precision of a file of ours; empty for files of others."""
    model = entry.result.model
    return "torch" if model.kind == "torch" else model.precision or ""


def _measured_alike(entry: Entry) -> tuple[object, ...]:
    result = entry.result
    model, source = result.model, result.source
    weights = model.exported_from or model.weights
    return weights, model.mean, model.std, source and source.weights, result.data.sha256, result.protocol


def _table(rows: Sequence[tuple[str, Entry]]) -> Table:
    (first, reference), *_ = rows
    names = columns([entry for _, entry in rows])
    lines = []
    for name, entry in rows:
        figures = [_cell(entry, reference, column, is_reference=name == first) for column in names]
        lines.append(Row((Cell(name), Cell(entry.model), *figures)))
    conditions = f"{reference.conditions}, n = {reference.n:,}"
    title = f"{conditions}: accuracy in percent, and points gained (+) or lost (−) against {first}"
    if reference.source:
        title = f"Attacked through {reference.source}, {title}"
    note = f"{WORST}: an image counts as right only if every attack of its row left it right. "
    note += "In fp16 and int8, attacks follow the gradients of the twin in float32; the file itself judges."
    heads = (Column("precision", numeric=False), Column("model", numeric=False), *map(Column, names))
    return Table(title, heads, tuple(lines), note, sortable=False)


def _cell(entry: Entry, reference: Entry, column: str, *, is_reference: bool) -> Cell:
    measurement, other = entry.measurements.get(column), reference.measurements.get(column)
    cell = accuracy(measurement)
    if measurement is None or other is None or cell is EMPTY:
        return cell
    points = 100 * (measurement.accuracy - other.accuracy)
    return Cell(cell.text, cell.value, "" if is_reference else signed(points))
