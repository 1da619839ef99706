"""The paper's figures, drawn from a search's candidates, each with its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.reports.elements import EMPTY, Chart, Element, Section, Table, TableCell, percent
from robnet_zoo.reports.search import charts, paper
from robnet_zoo.reports.search.cells import (
    NUMBERS,
    coefficient,
    in_words,
    or_missing,
    percents,
    points,
    probability,
    search_table,
)
from robnet_zoo.reports.search.searched import kind, scale
from robnet_zoo.search.analysis.figure3 import finetuning, histogram
from robnet_zoo.search.analysis.figure4 import embedding, linear_classifier
from robnet_zoo.search.analysis.figure5 import density
from robnet_zoo.search.analysis.figure6 import budgets, convolutions
from robnet_zoo.search.analysis.figure7 import fsp
from robnet_zoo.search.analysis.observations import Observation, Observed, distinct, finetuned
from robnet_zoo.search.analysis.pareto import front
from robnet_zoo.search.result import StudyResult


def sections(search: Observed) -> list[Section]:
    """Return a section for each group of figures that the paper has of this kind, and one for the price."""
    result, uniform, every = search.result, search.uniform, distinct(search.observations)
    words, key = kind(result), result.kind
    filtered = " A filter chose which of them are finetuned." if _filtered(search) else ""
    first = Section(
        f"finetuning-{key}",
        f"Finetuning, {words} (figure 3)",
        _who(search) + filtered,
        (
            *or_missing("Before and after finetuning", lambda: _finetuning(result, uniform)),
            *or_missing("Robust accuracy", lambda: _histogram(result, uniform)),
        ),
    )
    last = Section(
        f"front-{key}",
        f"Robustness and its price, {words}",
        "All finetuned candidates of all groups; multiply-adds are those of the search's network.",
        or_missing("Pareto front", lambda: _front(result, every)),
    )
    return [first, *(_cell_based(search) if key == "cell_based" else _cell_free(search)), last]


def _cell_based(search: Observed) -> list[Section]:
    result, uniform = search.result, search.uniform
    return [
        Section(
            "alpha",
            "The most and the least robust (figure 4)",
            "The best and the worst 30 % of the candidates, as the paper's 300 and 300 of 1,000.",
            (
                *or_missing("α in two dimensions", lambda: _embedding(result, uniform)),
                *or_missing("A linear classifier of α", lambda: _classifier(result, uniform)),
            ),
        ),
        Section(
            "density",
            "Density (figure 5)",
            "The share of the elements of α that are 1.",
            or_missing("Density and robust accuracy", lambda: _density(result, uniform)),
        ),
        Section(
            "convolutions",
            "Convolutions on direct and on skip edges (figure 6)",
            "An edge is direct if its target follows its source, otherwise it skips.",
            (
                *or_missing("Numbers of convolutions", lambda: _convolutions(result, uniform)),
                *or_missing("Budgets", lambda: _budgets(result, search.budgeted)),
            ),
        ),
    ]


def _cell_free(search: Observed) -> list[Section]:
    return [
        Section(
            "fsp",
            "FSP distance (figures 7 and 8)",
            "How far attacks move each cell's feature flow, against clean − robust accuracy, both before finetuning.",
            or_missing("FSP distance by cell", lambda: _fsp(search.result, search.uniform)),
        )
    ]


def _who(search: Observed) -> str:
    names, observations = search.uniform_groups, search.uniform
    if not names:
        return "This figure is about candidates drawn uniformly without bounds, and no group is drawn so."
    done = len(finetuned(observations))
    return f"Groups that are drawn uniformly: {', '.join(names)}; {len(observations):,} candidates, {done:,} finetuned."


def _filtered(search: Observed) -> bool:
    return any(group.filter for group in search.result.branch.groups if group.name in search.uniform_groups)


def _chart(title: str, drawing: charts.Drawing, table: Table, *, wide: bool = False) -> Chart:
    return Chart(title, *drawing, table, beside=True, wide=wide)


def _finetuning(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = finetuning(observations)
    n = f"{analysis.before.n:,}"
    rows = (
        ("robust accuracy before, %", percents(analysis.before), n),
        ("robust accuracy after, %", percents(analysis.after), n),
        ("improvement, percentage points", points(analysis.improvement), n),
        ("candidates that improved, %", percents(analysis.improved), n),
        ("rank correlation of before and after, on the same images", coefficient(analysis.order), n),
    )
    worse = percent(1 - analysis.improved.value)
    here = f"Here: {in_words(points(analysis.improvement))} points on average; {worse} % of them did not improve."
    note = f"{paper.FINETUNING} {here}"
    table = search_table("Finetuning", NUMBERS, rows, scale=scale(result), note=note)
    drawing = charts.before_after(observations, analysis)
    return [_chart("3a. Robust accuracy before and after finetuning", drawing, table)]


def _histogram(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = histogram(observations, images=result.validation)
    n = f"{analysis.mean.n:,}"
    spread, noise = (f"{100 * deviation:.2f}" for deviation in (analysis.deviation, analysis.noise))
    rows = (
        ("mean robust accuracy, %", percents(analysis.mean), n),
        ("median, %", percent(analysis.median), n),
        ("standard deviation between candidates, points", spread, n),
        ("of one candidate by the choice of images, points", noise, n),
    )
    note = (
        f"{paper.HISTOGRAM} Here: a mean of {percent(analysis.mean.value)} %; candidates differ by {spread} points, "
        f"and the choice of images alone moves a candidate by {noise}."
    )
    table = search_table("Robust accuracy of the candidates", NUMBERS, rows, scale=scale(result), note=note)
    return [_chart("3b. Robust accuracy after finetuning", charts.histogram(analysis), table)]


def _classifier(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = linear_classifier(observations, result.space)
    n = f"{2 * analysis.each:,}"
    rows = (
        ("accuracy on the candidates that it was fitted to, %", percents(analysis.training), n),
        (f"accuracy on others, {analysis.folds}-fold cross-validation, %", percents(analysis.validated), n),
        ("accuracy by chance, %", percent(0.5), n),
        (f"positive weights, % of {analysis.positive.n}", percents(analysis.positive), n),
        ("p of as many of one sign by chance", probability(analysis.p), n),
    )
    note = (
        f"{paper.CLASSIFIER} {paper.WEIGHTS} Here: {percent(analysis.training.value)} % on those that it was fitted "
        f"to, {percent(analysis.validated.value)} % on others; {percent(analysis.positive.value)} % of the weights are "
        "positive. The interval of that share treats the weights as independent, which they are not quite."
    )
    table = search_table("A linear classifier of α", NUMBERS, rows, scale=scale(result), note=note)
    return [_chart("4b. Weights of a linear classifier of α", charts.weights(analysis), table)]


def _embedding(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = embedding(observations)
    n = f"{len(analysis.labels):,}"
    rows = (
        ("nearest neighbour in α is of the same kind, %", percent(analysis.neighbours), n),
        ("by chance, %", percent(analysis.chance), n),
        ("p of as many with labels in random order", probability(analysis.p), n),
    )
    note = (
        f"{paper.EMBEDDING} Here: {percent(analysis.neighbours)} % have a nearest neighbour of their kind, "
        f"{percent(analysis.chance)} % would by chance."
    )
    table = search_table("Are they apart in α?", NUMBERS, rows, scale=scale(result), note=note)
    return [_chart("4a. α of the most and the least robust, by t-SNE", charts.embedding(analysis), table)]


def _density(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = density(observations)
    n = f"{analysis.spearman.n:,}"
    rows = (
        ("Spearman's rank correlation with robust accuracy", coefficient(analysis.spearman), n),
        ("its p", probability(analysis.spearman.p), n),
        ("Kendall's tau-b", coefficient(analysis.kendall), n),
        ("Spearman's, at equal numbers of convolutions", coefficient(analysis.given_convs), n),
        ("Spearman's, at equal multiply-adds", coefficient(analysis.given_multiply_adds), n),
    )
    note = "Dense architectures have more convolutions and multiply-adds; the last two rows show what is left without."
    table = search_table("Density and robust accuracy", NUMBERS, rows, scale=scale(result), note=note)
    return [_chart("5. Density and robust accuracy", charts.density(observations, analysis), table)]


def _convolutions(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = convolutions(observations)
    n = f"{analysis.direct.n:,}"
    rows = (
        ("rank correlation of their number and robust accuracy", coefficient(analysis.correlation), n),
        ("one more on a direct edge, points", points(analysis.direct), n),
        ("one more on a skip edge, points", points(analysis.skip), n),
        ("the difference, points", points(analysis.difference), n),
        ("variance explained by both, %", percent(analysis.explained), n),
    )
    note = (
        "Least squares on both numbers, with HC3 intervals. The paper: those on direct edges contribute more. Here: "
        f"{in_words(points(analysis.direct))} points for one on a direct edge, {in_words(points(analysis.skip))} for "
        "one on a skip edge."
    )
    table = search_table("What a convolution adds", NUMBERS, rows, scale=scale(result), note=note)
    return [_chart("6a. Robust accuracy by the number of convolutions", charts.convolutions(analysis), table)]


def _budgets(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = budgets(observations)
    rows: tuple[tuple[str | TableCell, ...], ...] = (
        ("candidates", *(f"{each.n:,}" for each in analysis.budgets)),
        ("robust accuracy, %", *(percents(each.robust) if each.robust else EMPTY for each in analysis.budgets)),
        ("rank correlation", *(coefficient(each.correlation) for each in analysis.budgets)),
        ("at equal numbers of convolutions", *(coefficient(each.given_convs) for each in analysis.budgets)),
    )
    heads = ("number", *(each.budget for each in analysis.budgets))
    means = (percent(each.robust.value) if each.robust else "–" for each in analysis.budgets)
    note = (
        "The rank correlation is that of robust accuracy and the share of convolutions on direct edges. The paper: "
        "positive under small and medium budgets, not obvious under the large one; and clear boundaries between "
        f"budgets. Here: {', '.join(means)} % on average."
    )
    table = search_table("Budgets", heads, rows, scale=scale(result), note=note)
    return [_chart("6b. Share of direct convolutions, by budget", charts.budgets(observations, analysis), table)]


def _fsp(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = fsp(observations)
    n, last = f"{analysis.n:,}", analysis.last
    deep, shallow = analysis.positive
    rows = (
        (f"rank correlation of the mean distance of the last {last} cells and the gap", coefficient(analysis.deep), n),
        ("its p", probability(analysis.deep.p), n),
        ("the same at equal clean accuracy", coefficient(analysis.given_clean), n),
        ("trend: rank correlation of depth and the cells' correlations", coefficient(analysis.trend), n),
        (f"of the last {last} cells, with an interval above 0", str(deep), n),
        (f"of the {len(analysis.cells) - last} cells before, with an interval above 0", str(shallow), n),
    )
    cells = [
        (f"cell {depth}", coefficient(cell), probability(cell.p) if cell else "–")
        for depth, cell in enumerate(analysis.cells)
    ]
    note = "The trend's interval is a bootstrap over candidates. The paper: positive in the deeper cells."
    title = "8. Clean − robust accuracy in points (upward) against FSP distance (rightward), cell by cell"
    table = search_table("FSP distance and gap", NUMBERS, rows, scale=scale(result), note=note)
    heads = ("cell", "rank correlation, 95\u00a0% interval", "p")
    return [
        _chart(title, charts.fsp(observations, analysis), table, wide=True),
        search_table("Cell by cell", heads, cells, scale=scale(result)),
    ]


def _front(result: StudyResult, observations: Sequence[Observation]) -> list[Element]:
    analysis = front(observations)
    rows = [
        (f"{p.group} {p.index}", percent(p.robust), f"{p.multiply_adds / 1e6:,.2f}", f"{p.parameters:,}")
        for p in analysis.points
    ]
    heads = ("candidate", "robust accuracy, %", "multiply-adds, millions", "parameters")
    table = search_table(f"The Pareto front of {analysis.n:,} candidates", heads, rows, scale=scale(result))
    chosen = frozenset(group.name for group in result.branch.groups if group.sampler)
    return [_chart("Robust accuracy and multiply-adds", charts.front(observations, analysis, chosen=chosen), table)]
