"""What each exported file of a model loses and gains: size, latency, parity, and accuracy beside the model in torch."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.benchmarks.exports import BATCHES, ExportedForm, ExportsResult
from robnet_zoo.benchmarks.likeness import Gap
from robnet_zoo.core.wording import counted
from robnet_zoo.reports.elements import EMPTY, Column, Table, TableCell, TableRow
from robnet_zoo.reports.robustness.labelled import WORST, LabelledResult, columns, groups
from robnet_zoo.reports.robustness.tables import accuracy, signed


def exports(documents: Sequence[ExportsResult], entries: Sequence[LabelledResult]) -> list[Table]:
    """Return a table for each document and protocol that its forms were measured by: a row a form.

    A document whose forms were not measured on its images has a table without accuracies.
    """
    built = []
    for document in documents:
        weights = {form.model.weights for form in document.forms}
        fitting = [
            entry
            for entry in entries
            if entry.whole
            and entry.white_box
            and entry.result.model.weights in weights
            and entry.result.data.sha256 == document.data.sha256
        ]
        alike = groups(fitting, lambda entry: entry.result.protocol)
        built += [_table(document, members) for members in alike.values()] or [_table(document, [])]
    return built


def is_in(entry: LabelledResult, documents: Sequence[ExportsResult]) -> bool:
    """Return whether a table of exports shows a document."""
    return any(
        entry.result.model.weights == form.model.weights and entry.result.data.sha256 == document.data.sha256
        for document in documents
        for form in document.forms
    )


def _table(document: ExportsResult, entries: Sequence[LabelledResult]) -> Table:
    names = columns(entries)
    by_weights = {entry.result.model.weights: entry for entry in reversed(entries)}
    reference = by_weights.get(document.forms[0].model.weights)
    rows = []
    for form in document.forms:
        entry = by_weights.get(form.model.weights)
        figures = [_accuracy(entry, reference, name) for name in names]
        rows.append(TableRow((*_measured(form), *figures)))
    heads = ("MB", *(f"ms, batch {batch}" for batch in BATCHES), "logits", "gradients", "same class, %")
    return Table(
        f"{document.model.name} and its exports, {_conditions(document, entries)}",
        (Column("form", numeric=False), *map(Column, (*heads, *names))),
        tuple(rows),
        _note(document, entries),
        sortable=False,
    )


def _conditions(document: ExportsResult, entries: Sequence[LabelledResult]) -> str:
    conditions = entries[0].conditions if entries else document.data.name
    return (
        f"{conditions}, n = {document.data.n:,}: accuracy in percent, and points gained (+) or lost (−) against torch"
    )


def _note(document: ExportsResult, entries: Sequence[LabelledResult]) -> str:
    note = "MB: of the file; of torch, of its tensors. "
    note += f"ms: median of {counted(document.rounds, 'round')} in which all forms take turns, {document.device}. "
    note += "logits, gradients: the largest difference from torch's, as a share of the largest. "
    note += "same class: as torch gives."
    if any(WORST in entry.measurements for entry in entries):
        note += f" {WORST}: an image counts as right only if every attack of its row left it right."
    return note


def _measured(form: ExportedForm) -> tuple[TableCell, ...]:
    """Return a form's name and all of its figures but accuracies."""
    latencies = {latency.batch: latency.milliseconds for latency in form.latencies}
    times = [latencies.get(batch) for batch in BATCHES]
    agreement = form.agreement
    return (
        TableCell(form.form, None, form.file or form.model.name),
        TableCell(f"{form.bytes / 1e6:.2f}", form.bytes),
        *(EMPTY if time is None else TableCell(f"{time:.2f}", time) for time in times),
        _share(form.logits),
        _share(form.gradients),
        EMPTY if agreement is None else TableCell(f"{100 * agreement:.1f}", agreement),
    )


def _share(gap: Gap | None) -> TableCell:
    if gap is None or gap.why_not:
        return EMPTY
    return TableCell("not finite") if gap.difference is None else TableCell(f"{gap.share:.1e}", gap.share)


def _accuracy(entry: LabelledResult | None, reference: LabelledResult | None, name: str) -> TableCell:
    """Return an accuracy, and how many points it lies above or below torch's."""
    measurement = None if entry is None else entry.measurements.get(name)
    other = None if reference is None else reference.measurements.get(name)
    cell = accuracy(measurement)
    if measurement is None or other is None or entry is reference:
        return TableCell(cell.text, cell.value)
    return TableCell(cell.text, cell.value, signed(100 * (measurement.accuracy - other.accuracy)))


def figures(form: ExportedForm) -> dict[str, object]:
    """Return the columns that a form adds to its rows of the CSV file."""
    latencies = {f"milliseconds_batch_{latency.batch}": latency.milliseconds for latency in form.latencies}
    gaps = {"logit_difference": form.logits, "gradient_difference": form.gradients}
    return {
        "form": form.form,
        "bytes": form.bytes,
        **{f"milliseconds_batch_{batch}": latencies.get(f"milliseconds_batch_{batch}") for batch in BATCHES},
        **{name: None if gap is None else gap.difference for name, gap in gaps.items()},
        "agreement": form.agreement,
    }
