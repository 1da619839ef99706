"""The report of a reproduced table or figure: tables, charts, the paper's order, and at which scale."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

from robnet_zoo.attacks import AnyAttack
from robnet_zoo.core.statistics import IntervalEstimate
from robnet_zoo.core.wording import counted
from robnet_zoo.reports.alarms import alarm_groups
from robnet_zoo.reports.curves import MeasuredPoint, lines, scatter
from robnet_zoo.reports.elements import (
    EMPTY,
    Chart,
    Column,
    Notices,
    Particular,
    Record,
    Report,
    Section,
    Table,
    TableCell,
    TableRow,
    estimate_cell,
)
from robnet_zoo.reports.output import save
from robnet_zoo.reports.svg import Axis
from robnet_zoo.reproduce.order import OutcomeMatrix, accuracy, outcomes, pairs, verdict
from robnet_zoo.reproduce.result import ModelResult, PartResult, ReproductionResult

RULE = (
    "A pair holds if the whole 95 % interval of the difference is above 0, does not hold if it is below 0, and is "
    "undecided if 0 lies within or a row was trained once. The order holds if every pair does, and does not hold if "
    "one pair does not. Each interval is that of its own pair alone."
)
WORDS = {"holds": "holds", "does not hold": "does not hold", "undecided": "is undecided"}
COUNTED = {"holds": "hold", "does not hold": "do not hold", "undecided": "are undecided"}


def write(result: ReproductionResult, output: str | os.PathLike[str]) -> None:
    """Write the report of a plan; the same document gives the same bytes.

    Args:
        output: a file that ends in .html, .md or .csv (a row for each model and attack).

    Raises: ReportError for another ending.
    """
    save(reproduce_report(result), output)


def reproduce_report(result: ReproductionResult) -> Report:
    """Return the report: alarms, then the table, charts and order of each data set, then where it all came from."""
    sections = [Section("alarms", "Alarms", "", (_alarms(result),))]
    for number, part in enumerate(result.parts, start=1):
        if part.models:
            key, scale = f"part{number}", scale_line(result, part)
            charts = (*against_parameters(part, result.plan.order_by, scale=scale), *against_steps(part, scale=scale))
            sections.append(Section(key, part.part, "", (table(result, part), *charts)))
            sections.append(Section(f"{key}_order", f"The paper's order, {part.part}", RULE, (order(result, part),)))
    records = tuple(_record(result, part) for part in result.parts)
    sections.append(Section("provenance", "Provenance", "", records))
    rows = tuple(row for part in result.parts for model in part.models for row in _figures(result, part, model))
    return Report(result.plan.title, _overview(result), tuple(sections), rows)


def table(result: ReproductionResult, part: PartResult) -> Table:
    """Return accuracies, means over seeds: a row an architecture, or a pair of source and target."""
    attacks = list(dict.fromkeys(each.attack for model in part.models for each in model.outcomes))
    printed = _printed(result, part)
    keys = list(dict.fromkeys((model.label, model.source) for model in part.models))
    transfer = any(source for _, source in keys)
    rows = []
    for label, source in keys:
        models = [model for model in part.models if (model.label, model.source) == (label, source)]
        first = models[0]
        cells = [
            TableCell(label, label),
            *([TableCell(source or "–")] if transfer else []),
            TableCell(f"{first.parameters:,}", first.parameters),
        ]
        adds = first.multiply_adds
        cells.append(EMPTY if adds is None else TableCell(f"{adds / 1e6:,.1f} M", adds))
        for attack in attacks:
            measured = outcomes(models, attack)
            cells.append(EMPTY if measured is None else cell(accuracy(measured)))
        cells.append(TableCell(str(len(models)), len(models)))
        figure = printed.get(label) if source in (None, label) else None
        cells.append(EMPTY if figure is None else TableCell(f"{figure:.2f}", figure))
        rows.append(TableRow(tuple(cells)))
    heads = [Column("model", numeric=False), *([Column("attacked through", numeric=False)] if transfer else [])]
    heads += [Column("parameters"), Column("multiply-adds"), *map(Column, attacks), Column("trainings")]
    heads.append(Column(f"the paper's {result.plan.order_by}, full scale"))
    title = f"{result.plan.title}: accuracy in percent, means over trainings with 95 % intervals"
    return Table(title, tuple(heads), tuple(rows), scale=scale_line(result, part))


def order(result: ReproductionResult, part: PartResult) -> Table:
    """Return every two rows, and whether the one that the paper puts above the other is above it here."""
    compared = pairs(part, _printed(result, part), result.plan.order_by)
    rows = []
    for pair in compared:
        here = estimate_cell(pair.difference.value, pair.difference.interval, "+.1%")
        printed = TableCell(f"{pair.printed:+.2f}", pair.printed)
        names = (TableCell(pair.first, pair.first), TableCell(pair.second, pair.second))
        rows.append(TableRow((*names, printed, here, TableCell(pair.verdict, pair.verdict))))
    columns = (
        Column("above in the paper", numeric=False),
        Column("below", numeric=False),
        Column("the paper's difference, points"),
        Column("difference here, points"),
        Column("verdict", numeric=False),
    )
    title = "There are no two rows to compare"
    if compared:
        verdicts: list[str] = [pair.verdict for pair in compared]
        counts = ", ".join(f"{verdicts.count(word)} {counted}" for word, counted in COUNTED.items())
        title = f"By {result.plan.order_by} the paper's order {WORDS[verdict(compared)]} ({counts})"
    return Table(title, columns, tuple(rows), scale=scale_line(result, part))


def against_parameters(part: PartResult, attack: str, *, scale: str) -> list[Chart]:
    """Draw robust accuracy against parameters, a point for each row with white-box figures; fewer than two give none.

    Args:
        part: the table.
        attack: whose accuracies are drawn.
        scale: a line that stands below the figures.
    """
    points = []
    for label, models, measured in _measured(part, attack):
        if count := models[0].parameters:  # a foreign file may call none of its tensors a parameter
            points.append(_point(label, count, f"{count:,}", accuracy(measured)))
    if len(points) < 2:
        return []
    return [scatter(attack, part.part, points, scale=scale)]


def against_steps(part: PartResult, *, scale: str) -> list[Chart]:
    """Draw robust accuracy against steps: a chart for each family of attacks that differ in nothing else.

    Each row has a line. A family of one attack gives no chart. scale: stands below the figures.
    """
    families = defaultdict[str, dict[int, AnyAttack]](dict)
    for attack in part.protocol.attacks:
        if (family := attack.steps_family) is not None:
            families[family.key][family.steps] = attack
    axis, charts = Axis("steps, logarithmic", kind="logarithmic"), []
    for by_steps in families.values():
        points = [
            _point(label, steps, str(steps), accuracy(measured))
            for steps in sorted(by_steps)
            for label, _, measured in _measured(part, by_steps[steps].title)
        ]
        kind = next(iter(by_steps.values())).kind.replace("_", "-").upper()
        title = f"Robust accuracy against steps of {kind}: {part.part}"
        charts.append(lines(title, points, axis, "steps", scale=scale) if len(by_steps) > 1 else None)
    return [chart for chart in charts if chart is not None]


def cell(estimate: IntervalEstimate) -> TableCell:
    """Return a share in percent, with its interval."""
    return estimate_cell(estimate.value, estimate.interval, ".1%")


def scale_line(result: ReproductionResult, part: PartResult) -> str:
    """Return the line that stands below every table: at which scale its figures were measured."""
    recipe, attack = part.recipe, part.recipe.attack
    return (
        f"{result.scale} {part.size}x{part.size} pixels, {part.training.n:,} training images of {part.training.name}, "
        f"the last tenth held out; {counted(recipe.epochs, 'epoch')} of the recipe {recipe.name}, {attack.kind} with "
        f"{counted(attack.steps, 'step')} of {attack.step} at {attack.eps}; measured at {part.protocol.eps} on the "
        f"first {counted(part.data.n, 'image')} of {part.data.name}; seeds {', '.join(map(str, result.seeds))}."
        + (" One training each: the intervals are those of the images alone." if len(result.seeds) == 1 else "")
    )


def _overview(result: ReproductionResult) -> str:
    words = [str(result.scale)]
    if result.plan.description:
        words.append(result.plan.description)
    if not result.complete:
        words.append("Not complete: some rows are not trained or measured yet.")
    return " ".join(words)


def _alarms(result: ReproductionResult) -> Notices:
    alarms = [
        (f"{_who(model)}, {part.part}", alarm)
        for part in result.parts
        for model in part.models
        for alarm in model.alarms
    ]
    return Notices(tuple(alarm_groups(alarms)), "No alarms: no measurement says that a figure is not what it seems.")


def _who(model: ModelResult) -> str:
    through = "" if model.source is None else f" through {model.source}"
    return f"{model.label}{through}" + ("" if model.seed is None else f", seed {model.seed}")


def _measured(part: PartResult, attack: str) -> Iterator[tuple[str, list[ModelResult], OutcomeMatrix]]:
    """Yield (label, its trainings, their outcomes) of each row that was attacked so in a white box."""
    for label in dict.fromkeys(model.label for model in part.models):
        models = [model for model in part.models if model.label == label and model.source is None]
        measured = outcomes(models, attack)
        if measured is not None:
            yield label, models, measured


def _point(label: str, x: float, x_text: str, estimate: IntervalEstimate) -> MeasuredPoint:
    return MeasuredPoint(label, x, x_text, cell(estimate), estimate.interval)


def _printed(result: ReproductionResult, part: PartResult) -> dict[str, float]:
    planned = result.plan.parts[result.parts.index(part)]
    return {row.label: row.paper for row in planned.rows if row.paper is not None}


def _record(result: ReproductionResult, part: PartResult) -> Record:
    particulars = [
        Particular("training images", part.training.name),
        Particular("sha256", part.training.sha256, hash=True),
        Particular("measured on", part.data.name),
        Particular("sha256", part.data.sha256, hash=True),
        Particular("recipe", part.recipe.dumps().replace("\n", " ")),
        Particular("protocol", part.protocol.dumps().replace("\n", " ")),
    ]
    for model in part.models:
        hours = "" if model.hours is None else f", {model.hours:.2f} hours of training"
        weights, architecture = (model.state_sha256 or model.file_sha256 or "–")[:12], (model.hash or "–")[:12]
        particulars.append(Particular(_who(model), f"weights {weights}, architecture {architecture}{hours}"))
    software = ", ".join(f"{name} {version}" for name, version in result.software.items())
    particulars += [Particular("software", software), Particular("device", result.device)]
    return Record(part.part, tuple(particulars))


def _figures(result: ReproductionResult, part: PartResult, model: ModelResult) -> Iterator[dict[str, object]]:
    """Yield a row of the CSV file for each attack. right: images of n that the model got right."""
    for measured in model.outcomes:
        yield {
            "plan": result.plan.name,
            "part": part.part,
            "model": model.label,
            "source": model.source,
            "seed": model.seed,
            "attack": measured.attack,
            "n": len(measured.correct),
            "right": sum(measured.bits),
            "eps": None if measured.attack == "clean" else part.protocol.eps,
            "parameters": model.parameters,
            "multiply_adds": model.multiply_adds,
            "hours": model.hours,
            "state_sha256": model.state_sha256,
            "file_sha256": model.file_sha256,
            "architecture_hash": model.hash,
            "scale": result.scale.name,
        }
