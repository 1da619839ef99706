"""The tables of a report. Every figure in them stands in a results document or in the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from robnet_zoo.attacks import AnyAttack, AutoAttack, BatchAttack
from robnet_zoo.benchmarks.result import COSTS, Measurement, ModelIdentity, measured, worst_case
from robnet_zoo.reports.elements import EMPTY, Column, Table, TableCell, TableRow, estimate_cell
from robnet_zoo.reports.robustness.labelled import CLEAN, WORST, LabelledResult, columns, groups, proposing
from robnet_zoo.reports.robustness.published import (
    PaperColumn,
    PaperRow,
    PaperTable,
    published,
    same_architecture,
)

REPEATING = (4, 7)  # tables of the paper that have rows of its table 1 too
MANY = 1000  # images, up to which a tenth of a percent is all that there is to say
Numbers = tuple[int, ...]


def percent(share: float, n: int) -> str:
    """Write a share in percent: `52.6`, and `52.57` where there are enough images for the second digit."""
    return f"{100 * share:.{digits(n)}f}"


def digits(n: int) -> int:
    """Return how many digits of a percentage n images are enough for."""
    return 1 if n <= MANY else 2


def summary(entries: Sequence[LabelledResult]) -> Table:
    """Return the accuracies: a row a document, a column an attack."""
    names = columns(entries)
    rows = tuple(
        TableRow(
            (
                TableCell(entry.model, entry.model, entry.data),
                size(entry.result.model),
                images(entry),
                eps(entry),
                *(accuracy(entry.measurements.get(name)) for name in names),
            )
        )
        for entry in entries
    )
    heads = (Column("model", numeric=False), Column("parameters"), Column("images"), Column("eps"))
    protocols = {entry.result.protocol.name: entry.result.protocol for entry in entries}
    return Table(
        "Accuracy in percent with 95 % Wilson intervals; the worst case is over the attacks of its own row",
        (*heads, *map(Column, names)),
        rows,
        note=". ".join(f"Protocol {name}: {protocol.turns}" for name, protocol in protocols.items() if protocol.turns),
    )


def radii(entries: Sequence[LabelledResult]) -> Table | None:
    """Return the accuracies of models measured with several radii or norms side by side, if there are any.

    A row is a model on the same images. Of all attacks with a radius, in whatever document, the strongest counts.
    """
    several = [
        members
        for members in groups(entries, lambda entry: (entry.model, entry.data, entry.n)).values()
        if len({_ball(entry) for entry in members}) > 1
    ]
    heads: dict[tuple[bool, tuple[str, ...], float], str] = {}  # the shortest: 8/255 rather than 0.031372549
    for entry in sorted((entry for members in several for entry in members), key=lambda entry: len(entry.radius)):
        heads.setdefault(_ball(entry), entry.radius)
    balls = sorted(heads)
    rows = []
    for members in several:
        first = members[0]
        clean = next((entry.measurements[CLEAN] for entry in members if CLEAN in entry.measurements), None)
        cells = [TableCell(first.model, first.model, first.data), images(first), accuracy(clean)]
        cells += [_strongest([entry for entry in members if _ball(entry) == ball]) for ball in balls]
        rows.append(TableRow(tuple(cells)))
    radius_columns = [Column(heads[ball]) for ball in balls]
    columns_of = (Column("model", numeric=False), Column("images"), Column(CLEAN), *radius_columns)
    title = "Accuracy in percent under the strongest attack with each radius, in l-infinity unless stated"
    return Table(title, columns_of, tuple(rows)) if rows else None


def _ball(entry: LabelledResult) -> tuple[bool, tuple[str, ...], float]:
    """Return norms and radius, whichever way it is spelt, in the order of columns: l-infinity first."""
    return entry.norms not in ((), ("linf",)), entry.norms, entry.result.protocol.eps_value


def _strongest(entries: Sequence[LabelledResult]) -> TableCell:
    """Return the lowest accuracy in documents, and under which attack."""
    measured = [(name, item) for entry in entries for name, item in entry.measurements.items() if name != CLEAN]
    if not measured:
        return EMPTY
    name, lowest = min(measured, key=lambda pair: pair[1].accuracy)
    cell = accuracy(lowest)
    return replace(cell, detail=f"{cell.detail}, {name}")


def transfers(entries: Sequence[LabelledResult]) -> Table:
    """Return the accuracies of targets: a row a pair of source and target, a column an attack."""
    names = [name for name in columns(entries) if name != CLEAN]
    rows = tuple(
        TableRow(
            (
                TableCell(entry.model, entry.model, entry.data),
                TableCell(entry.source, entry.source),
                images(entry),
                eps(entry),
                *(accuracy(entry.measurements.get(name)) for name in names),
            )
        )
        for entry in entries
    )
    heads = (Column("target", numeric=False), Column("source", numeric=False), Column("images"), Column("eps"))
    return Table(
        "Accuracy of the target, in percent with 95 % Wilson intervals, on images made against the source",
        (*heads, *map(Column, names)),
        rows,
    )


def transfer_matrices(entries: Sequence[LabelledResult]) -> list[Table]:
    """Return a table for each data, eps and attack with several pairs: a row a target, a column a source."""
    matrices = []
    whole = [entry for entry in entries if entry.whole]
    for conditions, members in groups(whole, lambda entry: entry.conditions).items():
        for name in columns(members):
            pairs = {(entry.model, entry.source): entry for entry in reversed(members) if name in entry.measurements}
            if name not in (CLEAN, WORST) and len(pairs) > 1:
                matrices.append(_matrix(name, conditions, dict(reversed(pairs.items()))))
    return matrices


def _matrix(name: str, conditions: str, pairs: Mapping[tuple[str, str], LabelledResult]) -> Table:
    shares = [entry.measurements[name].accuracy for entry in pairs.values()]
    low, span = min(shares), max(shares) - min(shares)
    sources = list(dict.fromkeys(source for _, source in pairs))
    rows = []
    for target in dict.fromkeys(target for target, _ in pairs):
        cells = [TableCell(target)]
        for source in sources:
            entry = pairs.get((target, source))
            cell = accuracy(entry.measurements[name]) if entry else EMPTY
            if entry:
                tint = 1 - (entry.measurements[name].accuracy - low) / span if span else 0.0
                detail = cell.detail if independent(entry) else "white box: same weights"
                cell = replace(cell, detail=detail, share=tint)
            cells.append(cell)
        rows.append(TableRow(tuple(cells)))
    title = f"{name}, {conditions}: accuracy in percent of the target (row) on images made against the source"
    heads = (Column("target ↓ source →", numeric=False), *map(Column, sources))
    note = "The stronger the tint, the more images were fooled."
    return Table(title, heads, tuple(rows), note, sortable=False, heat=True)


def beside_the_paper(entries: Sequence[LabelledResult]) -> list[Table]:
    """Return the paper's tables; below each printed row stands what was measured here for its architecture."""
    built = []
    for table in published().tables:
        fitting = [entry for entry in entries if entry.whole and table.fits(entry.result)]
        rows = _beside(table, fitting)
        if rows:
            heads = [Column("model", numeric=False), Column("figures", numeric=False), Column("parameters")]
            note = f"paper: as printed in {published().authors} ({published().venue}), trained by its authors. "
            note += "measured here: the documents of this report, with 95 % Wilson intervals."
            built.append(
                Table(
                    f"Table {table.number}. {table.title}, eps {table.eps}; accuracy in percent",
                    (*heads, *(Column(column.label) for column in table.columns), Column("images")),
                    rows,
                    note,
                    sortable=False,
                )
            )
    return built


def parts(entries: Sequence[LabelledResult]) -> Table | None:
    """Return how many images each part of a composed attack was the first to fool, if there are such attacks."""
    rows = []
    for entry in entries:
        for name, measurement in entry.measurements.items():
            firsts = Counter(part for part in measurement.broken_by if part is not None)
            for part, count in firsts.most_common():
                share = percent(count / len(measurement.correct), len(measurement.correct))
                by = "nothing: wrong as it is" if part == CLEAN else part
                rows.append(
                    TableRow(
                        (
                            TableCell(entry.model),
                            TableCell(name, None, entry.conditions),
                            TableCell(by),
                            TableCell(str(count)),
                            TableCell(share),
                        )
                    )
                )
    heads = (Column("model", numeric=False), Column("attack", numeric=False), Column("fooled first by", numeric=False))
    title = "Which part of an attack was the first to fool the model"
    columns_of = (*heads, Column("images"), Column("percent"))
    return Table(title, columns_of, tuple(rows), sortable=False) if rows else None


def cost(entries: Sequence[LabelledResult]) -> Table:
    """Return what each attack cost an image, on average and where it withstood, beside AutoAttack's count."""
    whole = AutoAttack().cost(num_classes=10)
    devices = {(device.text, device.detail) for device in map(_device, entries)}
    several = len(devices) > 1
    rows = tuple(
        TableRow(
            (
                TableCell(entry.model, entry.model, f"attacked through {entry.source}" if entry.source else ""),
                TableCell(name, name, f"eps {entry.radius}" if name != CLEAN else ""),
                mean(measurement.forwards),
                mean(measurement.backwards),
                mean(measurement.judged),
                mean(_withstood(measurement, measurement.forwards, entry.attacks.get(name))),
                mean(_withstood(measurement, measurement.backwards, entry.attacks.get(name))),
                TableCell(f"{measurement.seconds:,.1f}", measurement.seconds),
                TableCell(
                    f"{1000 * measurement.seconds / len(measurement.correct):,.1f}",
                    measurement.seconds / len(measurement.correct),
                ),
                *([_device(entry)] if several else []),
            )
        )
        for entry in entries
        for name, measurement in (*entry.measurements.items(), *_in_turn(entry))
        if name != WORST
    )
    passes = ("forwards", "backwards", "judged", "forwards, withstood", "backwards, withstood")
    times = ("seconds, all images", "ms an image")
    heads = (Column("model", numeric=False), Column("attack", numeric=False), *map(Column, (*passes, *times)))
    if several:
        heads = (*heads, Column("device", numeric=False))
        where = "Seconds of different devices cannot be compared."
    else:
        where = "Device: " + "; ".join(*devices) + "."
    return Table(
        "Passes an image through the form that proposes, and through the original that judges",
        heads,
        rows,
        "Withstood: an image that the attack left right. The standard AutoAttack sends such an image forwards "
        f"{whole.forwards:,} times and backwards {whole.backwards:,} times. {where}",
    )


def _in_turn(entry: LabelledResult) -> Iterator[tuple[str, Measurement]]:
    """Yield what attacks that took turns cost together, if some did."""
    parts = entry.result.in_turn
    if len(parts) > 1 and len({len(part.correct) for part in parts}) == 1:
        passes = {key: tuple(map(sum, zip(*(getattr(part, key) for part in parts), strict=True))) for key in COSTS}
        whole = worst_case(parts)
        name = ", then ".join(part.attack for part in parts)
        yield name, measured(name, whole.correct, seconds=whole.seconds, **passes)


def _device(entry: LabelledResult) -> TableCell:
    device = entry.result.device
    return TableCell(device, device, f"{proposing(entry.result.protocol)} proposes")


def _withstood(measurement: Measurement, counts: Numbers, attack: AnyAttack | None) -> Numbers:
    """Return the counts of the images that an attack left right, if there are counts of each image.

    Those of an attack that takes a batch as a whole are spread over its images alike, whether they withstood or not.
    """
    if isinstance(attack, BatchAttack):
        return ()
    return tuple(count for count, right in zip(counts, measurement.correct, strict=False) if right)


def accuracy(measurement: Measurement | None) -> TableCell:
    """Return `52.6` over its interval, `49.5 – 55.7`."""
    if measurement is None:
        return EMPTY
    n = len(measurement.correct)
    return estimate_cell(measurement.accuracy, measurement.interval, f".{digits(n)}%")


def size(model: ModelIdentity) -> TableCell:
    """Return the exact number of parameters."""
    return EMPTY if model.parameters is None else TableCell(f"{model.parameters:,}", model.parameters)


def images(entry: LabelledResult) -> TableCell:
    """Return the number of images, and of how many if they are not all."""
    return TableCell(f"{entry.n:,}", entry.n, "" if entry.whole else f"of {entry.result.data.n:,}")


def eps(entry: LabelledResult) -> TableCell:
    """Return the radius as the protocol spells it, with its norm."""
    return TableCell(entry.radius, entry.result.protocol.eps_value)


def mean(counts: Numbers) -> TableCell:
    """Return the mean count an image; unknown where the document has none."""
    if not counts:
        return EMPTY
    value = sum(counts) / len(counts)
    return TableCell(f"{value:,.1f}", value)


def signed(points: float) -> str:
    """Write a difference with its sign: `+1.5`, `−1.5`, `0.0`."""
    return f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0.0"


def independent(entry: LabelledResult) -> bool:
    """Return whether the source and the target of a transfer are different trainings or networks."""
    source = entry.result.source
    return source is not None and source.weights != entry.result.model.weights


def _beside(table: PaperTable, entries: Sequence[LabelledResult]) -> tuple[TableRow, ...]:
    """Return the printed rows with ours below each, and ours of other architectures last.

    There are none where nothing was measured of an architecture of the paper or of a spec, and where a table that
    repeats rows of table 1 would add nothing to it.
    """
    ours = [(table.row_of(members[0].result.model), members) for members in _lines(table, entries)]
    measured = [(printed, row) for printed, members in ours if (row := _our_row(table, members)) is not None]
    models = [members[0].result.model for _, members in ours]
    if not any(model.spec_hash or any(each.row_of(model) for each in published().tables) for model in models):
        return ()  # networks of others
    repeated = {row.model for row in published().table(1).rows} if table.number in REPEATING else set()
    if not measured or (repeated and all(printed is None or printed.model in repeated for printed, _ in measured)):
        return ()
    rows = []
    for printed in table.rows:
        rows.append(_paper_row(printed))
        rows += [row for other, row in measured if other == printed]
    return (*rows, *(row for printed, row in measured if printed is None))


def _lines(table: PaperTable, entries: Sequence[LabelledResult]) -> list[list[LabelledResult]]:
    """Return the documents of each row: one of a white box, or all transfers to a target together."""
    if table.threat == "white_box":
        return [[entry] for entry in entries]
    useful = [entry for entry in entries if independent(entry)]
    return list(groups(useful, lambda entry: (entry.model, entry.data)).values())


def _paper_row(printed: PaperRow) -> TableRow:
    parameters = EMPTY if printed.parameters is None else TableCell(f"{printed.parameters:.2f} M")
    figures = (TableCell(f"{value:.2f}", value / 100) for value in printed.values)
    return TableRow((TableCell(printed.model), TableCell("paper"), parameters, *figures, EMPTY), "paper")


def _our_row(table: PaperTable, entries: Sequence[LabelledResult]) -> TableRow | None:
    cells = [accuracy(_measured(table, column, entries)) for column in table.columns]
    if all(cell == EMPTY for cell, column in zip(cells, table.columns, strict=True) if column.attack is not None):
        return None
    first = entries[0]
    parameters = first.result.model.parameters
    shown = EMPTY if parameters is None else TableCell(f"{parameters / 1e6:.2f} M", None, f"{parameters:,}")
    head = (TableCell(first.model, None, first.data), TableCell("measured here"), shown)
    return TableRow((*head, *cells, TableCell(f"{first.n:,}")), "measured here")


def _measured(table: PaperTable, column: PaperColumn, entries: Sequence[LabelledResult]) -> Measurement | None:
    """Return our figure for a printed column, if a document holds one."""
    for entry in entries:
        if not _from_source(table, column, entry):
            continue
        if column.attack is None:
            return entry.measurements.get(CLEAN)
        for name, attack in entry.attacks.items():
            if column.fits(attack) and name in entry.measurements and not entry.before(name):
                return entry.measurements[name]
    return None


def _from_source(table: PaperTable, column: PaperColumn, entry: LabelledResult) -> bool:
    source = entry.result.source
    if column.source is None:
        return True
    if source is None:
        return False
    if column.source == "copy":
        return same_architecture(entry.result.model, source)
    row = table.row_of(source)
    return row is not None and row.model == column.source
