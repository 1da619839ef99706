"""What a plan gave, as one HTML page or as Markdown: tables, the order, and at which scale."""

from __future__ import annotations

import os
from pathlib import Path

from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.reproduce.drawings import against_parameters, against_steps, cell
from robnet_zoo.reports.robustness.blocks import EMPTY, Cell, Column, Notice, Notices, Record, Row, Section
from robnet_zoo.reports.robustness.blocks import Table as Block
from robnet_zoo.reports.robustness.page import html
from robnet_zoo.reports.robustness.plain import markdown
from robnet_zoo.reproduce.order import accuracy, outcomes, pairs, verdict
from robnet_zoo.reproduce.result import ModelResult, PartResult, ReproductionResult

FORMATS = (".html", ".md")
RULE = (
    "A pair holds if the whole 95 % interval of the difference is above 0, does not hold if it is below 0, and is "
    "undecided if 0 lies within or a row was trained once. The order holds if every pair does, and does not hold if "
    "one pair does not. Each interval is that of its own pair alone."
)
WORDS = {"holds": "holds", "does not hold": "does not hold", "undecided": "is undecided"}
COUNTED = {"holds": "hold", "does not hold": "do not hold", "undecided": "are undecided"}


def write(result: ReproductionResult, output: str | os.PathLike[str]) -> None:
    """Write the report, .html or .md; the same document gives the same bytes. Raises ReportError for another ending."""
    path = Path(output)
    if path.suffix not in FORMATS:
        raise ReportError(f"{path}: expected a file that ends in {', '.join(FORMATS)}, got {path.suffix!r}")
    write = html if path.suffix == ".html" else markdown
    text = write(result.plan.title, _overview(result), sections(result))
    write_atomically(path, text.encode())


def _overview(result: ReproductionResult) -> str:
    words = [str(result.scale)]
    if result.plan.description:
        words.append(result.plan.description)
    if not result.complete:
        words.append("Not complete: some rows are not trained or measured yet.")
    return " ".join(words)


def sections(result: ReproductionResult) -> list[Section]:
    """Alarms, then of each data set its table, its drawings and the order, then how it came about."""
    found = [Section("alarms", "Alarms", "", (_alarms(result),))]
    for number, part in enumerate(result.parts, start=1):
        if part.models:
            key = f"part{number}"
            note = scale_line(result, part)
            drawn = (*against_parameters(part, result.plan.order_by, note=note), *against_steps(part, note=note))
            found.append(Section(key, part.part, "", (table(result, part), *drawn)))
            found.append(Section(f"{key}_order", f"The paper's order, {part.part}", RULE, (order(result, part),)))
    found.append(Section("provenance", "Provenance", "", tuple(_record(result, part) for part in result.parts)))
    return found


def _alarms(result: ReproductionResult) -> Notices:
    notices = [
        Notice(alarm.name, f"{_who(model)}, {part.part}", alarm.text, alarms.kind_of(alarm).meaning)
        for part in result.parts
        for model in part.models
        for alarm in model.alarms
    ]
    return Notices(tuple(notices), "No alarms: no measurement says that a figure is not what it seems.")


def _who(model: ModelResult) -> str:
    through = "" if model.source is None else f" through {model.source}"
    return f"{model.label}{through}" + ("" if model.seed is None else f", seed {model.seed}")


def scale_line(result: ReproductionResult, part: PartResult) -> str:
    """What stands under every table."""
    recipe, attack = part.recipe, part.recipe.attack
    return (
        f"{result.scale} {part.size}x{part.size} pixels, {part.training.n:,} training images of {part.training.name}, "
        f"the last tenth held out; {recipe.epochs} epochs of the recipe {recipe.name}, {attack.kind} with "
        f"{attack.steps} steps of {attack.step} at {attack.eps}; measured at {part.protocol.eps} on the first "
        f"{part.data.n:,} images of {part.data.name}; seeds {', '.join(map(str, result.seeds))}."
        + (" One training each: the intervals are of the images alone." if len(result.seeds) == 1 else "")
    )


def table(result: ReproductionResult, part: PartResult) -> Block:
    """A row an architecture, or a pair of source and target: means over seeds, with intervals."""
    attacks = list(dict.fromkeys(each.attack for model in part.models for each in model.outcomes))
    printed = _printed(result, part)
    keys = list(dict.fromkeys((model.label, model.source) for model in part.models))
    transfer = any(source for _, source in keys)
    rows = []
    for label, source in keys:
        models = [model for model in part.models if (model.label, model.source) == (label, source)]
        first = models[0]
        cells = [
            Cell(label, label),
            *([Cell(source or "–")] if transfer else []),
            Cell(f"{first.parameters:,}", first.parameters),
        ]
        adds = first.multiply_adds
        cells.append(EMPTY if adds is None else Cell(f"{adds / 1e6:,.1f} M", adds))
        for attack in attacks:
            of = outcomes(models, attack)
            cells.append(EMPTY if of is None else cell(accuracy(of)))
        cells.append(Cell(str(len(models)), len(models)))
        figure = printed.get(label) if source in (None, label) else None
        cells.append(EMPTY if figure is None else Cell(f"{figure:.2f}", figure))
        rows.append(Row(tuple(cells)))
    heads = [Column("model", numeric=False), *([Column("attacked through", numeric=False)] if transfer else [])]
    heads += [Column("parameters"), Column("multiply-adds"), *map(Column, attacks), Column("trainings")]
    heads.append(Column(f"the paper's {result.plan.order_by}, full scale"))
    title = f"{result.plan.title}: accuracy in percent, means over trainings with 95 % intervals"
    return Block(title, tuple(heads), tuple(rows), scale_line(result, part))


def _printed(result: ReproductionResult, part: PartResult) -> dict[str, float]:
    of = result.plan.parts[result.parts.index(part)]
    return {row.label: row.paper for row in of.rows if row.paper is not None}


def order(result: ReproductionResult, part: PartResult) -> Block:
    """Every two rows, and whether the one that the paper puts above the other is above it here."""
    found = pairs(part, _printed(result, part), result.plan.order_by)
    rows = tuple(
        Row(
            (
                Cell(pair.first),
                Cell(pair.second),
                Cell(f"{pair.printed:+.2f}", pair.printed),
                Cell(
                    f"{100 * pair.difference.value:+.1f}",
                    pair.difference.value,
                    f"{pair.difference.interval:+.1%}",
                ),
                Cell(pair.verdict),
            )
        )
        for pair in found
    )
    columns = (
        Column("above in the paper", numeric=False),
        Column("below", numeric=False),
        Column("the paper's difference, points"),
        Column("difference here, points"),
        Column("verdict", numeric=False),
    )
    counts = ", ".join(f"{sum(pair.verdict == word for pair in found)} {counted}" for word, counted in COUNTED.items())
    said = (
        f"By {result.plan.order_by} the paper's order {WORDS[verdict(found)]}"
        if found
        else "There are no two rows to compare"
    )
    return Block(f"{said} ({counts})" if found else said, columns, rows, scale_line(result, part))


def _record(result: ReproductionResult, part: PartResult) -> Record:
    fields = [
        ("training images", part.training.name, False),
        ("sha256", part.training.sha256, True),
        ("measured on", part.data.name, False),
        ("sha256", part.data.sha256, True),
        ("recipe", part.recipe.dumps().replace("\n", " "), False),
        ("protocol", part.protocol.dumps().replace("\n", " "), False),
    ]
    for model in part.models:
        hours = "" if model.hours is None else f", {model.hours:.2f} hours of training"
        weights, architecture = (model.state_sha256 or model.file_sha256 or "–")[:12], (model.hash or "–")[:12]
        fields.append((_who(model), f"weights {weights}, architecture {architecture}{hours}", False))
    fields.append(("software", ", ".join(f"{name} {version}" for name, version in result.software.items()), False))
    fields.append(("device", result.device, False))
    return Record(part.part, tuple(fields))
