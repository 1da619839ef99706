"""How much accuracy each precision of an exported file loses against the model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.reports.elements import EMPTY, Column, Table, TableCell, TableRow
from robnet_zoo.reports.robustness.labelled import WORST, LabelledResult, columns, groups
from robnet_zoo.reports.robustness.tables import accuracy, signed

ORDER = ("torch", "fp32", "fp16", "int8")


def precisions(entries: Sequence[LabelledResult]) -> list[Table]:
    """Return a table for each model and its files, measured alike: a row a precision, a column an attack.

    Each cell says how many points are lost against torch, or against the file in fp32 where torch was not measured.
    """
    built = []
    whole = [entry for entry in entries if entry.whole]
    for members in groups(whole, _measured_alike).values():
        by_precision = {precision(entry): entry for entry in reversed(members)}
        rows = [(name, by_precision[name]) for name in ORDER if name in by_precision]
        if len(rows) > 1:
            built.append(_table(rows))
    return built


def precision(entry: LabelledResult) -> str:
    """Return `torch`, or the precision of a file exported here; empty for files of others."""
    model = entry.result.model
    return "torch" if model.kind == "torch" else model.precision or ""


def _measured_alike(entry: LabelledResult) -> tuple[object, ...]:
    result = entry.result
    model, source = result.model, result.source
    weights = model.exported_from or model.weights
    return weights, model.mean, model.std, source and source.weights, result.data.sha256, result.protocol


def _table(rows: Sequence[tuple[str, LabelledResult]]) -> Table:
    (first, reference), *_ = rows
    names = columns([entry for _, entry in rows])
    lines = []
    for name, entry in rows:
        figures = [_cell(entry, reference, column, is_reference=name == first) for column in names]
        lines.append(TableRow((TableCell(name), TableCell(entry.model), *figures)))
    conditions = f"{reference.conditions}, n = {reference.n:,}"
    title = f"{conditions}: accuracy in percent, and points gained (+) or lost (−) against {first}"
    if reference.source:
        title = f"Attacked through {reference.source}, {title}"
    note = f"{WORST}: an image counts as right only if every attack of its row left it right. "
    note += "Attacks on fp16 follow the twin in float32, those on int8 also gradients that pass its rounding; "
    note += "the file itself judges."
    heads = (Column("precision", numeric=False), Column("model", numeric=False), *map(Column, names))
    return Table(title, heads, tuple(lines), note, sortable=False)


def _cell(entry: LabelledResult, reference: LabelledResult, column: str, *, is_reference: bool) -> TableCell:
    measurement, other = entry.measurements.get(column), reference.measurements.get(column)
    cell = accuracy(measurement)
    if measurement is None or other is None or cell is EMPTY:
        return cell
    points = 100 * (measurement.accuracy - other.accuracy)
    return TableCell(cell.text, cell.value, "" if is_reference else signed(points))
