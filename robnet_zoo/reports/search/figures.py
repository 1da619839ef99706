"""The paper's figures, drawn from a search's candidates, each with its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from robnet_zoo.reports.search import paper, pictures
from robnet_zoo.reports.search.blocks import (
    Block,
    Drawing,
    Section,
    Table,
    coefficient,
    or_missing,
    percent,
    percents,
    points,
    probability,
)
from robnet_zoo.reports.search.scale import kind, scale
from robnet_zoo.search.analysis.figure3 import finetuning, histogram
from robnet_zoo.search.analysis.figure4 import embedding, linear_classifier
from robnet_zoo.search.analysis.figure5 import density
from robnet_zoo.search.analysis.figure6 import budgets, convolutions
from robnet_zoo.search.analysis.figure7 import fsp
from robnet_zoo.search.analysis.observations import Observation, Observed, distinct, finetuned
from robnet_zoo.search.analysis.pareto import front
from robnet_zoo.search.result import StudyResult

NUMBERS = ("number", "value (95\u00a0% interval)", "candidates")


def sections(search: Observed) -> list[Section]:
    """A section for each group of figures that a result's kind has in the paper, and one for the price."""
    result, uniform, every = search.result, search.uniform, distinct(search.observations)
    of, key = kind(result), result.kind
    filtered = " Which of them are finetuned, a filter chose." if _filtered(search) else ""
    first = Section(
        f"finetuning-{key}",
        f"Finetuning, {of} (figure 3)",
        _who(search) + filtered,
        (
            *or_missing("Before and after finetuning", lambda: _finetuning(result, uniform)),
            *or_missing("Robust accuracy", lambda: _histogram(result, uniform)),
        ),
    )
    last = Section(
        f"front-{key}",
        f"Robustness and its price, {of}",
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
        return "No group is drawn uniformly without bounds, which is what this figure is about."
    done = len(finetuned(observations))
    return f"Groups that are drawn uniformly: {', '.join(names)}; {len(observations):,} candidates, {done:,} finetuned."


def _filtered(search: Observed) -> bool:
    return any(group.filter for group in search.result.branch.groups if group.name in search.uniform_groups)


def _drawing(title: str, svg: str, note: str = "", *, wide: bool = False) -> Drawing:
    return Drawing(title, Markup(svg), note, wide)  # pictures escape what they are given


def _finetuning(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = finetuning(observations)
    n = f"{found.before.n:,}"
    rows = (
        ("robust accuracy before, %", percents(found.before), n),
        ("robust accuracy after, %", percents(found.after), n),
        ("improvement, percentage points", points(found.improvement), n),
        ("candidates that improved, %", percents(found.improved), n),
        ("rank correlation of before and after", coefficient(found.order), n),
    )
    worse = percent(1 - found.improved.value)
    here = f"Here: {points(found.improvement)} points on average; {worse} % of the candidates did not improve."
    svg = pictures.before_after(observations, found, key=f"figure3a-{result.kind}")
    return [
        _drawing("3a. Robust accuracy before and after finetuning", svg),
        Table("Finetuning", NUMBERS, rows, scale(result), f"{paper.FINETUNING} {here}"),
    ]


def _histogram(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = histogram(observations, images=result.validation)
    n = f"{found.mean.n:,}"
    rows = (
        ("mean robust accuracy, %", percents(found.mean), n),
        ("median, %", percent(found.median), n),
        ("standard deviation between candidates, points", f"{100 * found.deviation:.2f}", n),
        ("of one candidate by the choice of images, points", f"{100 * found.noise:.2f}", n),
    )
    svg = pictures.histogram(found, key=f"figure3b-{result.kind}")
    spread, noise = (f"{100 * deviation:.2f}" for deviation in (found.deviation, found.noise))
    here = (
        f"Here: a mean of {percent(found.mean.value)} %, and candidates that differ by {spread} points, where the "
        f"choice of images alone moves one by {noise}."
    )
    return [
        _drawing("3b. Robust accuracy after finetuning", svg),
        Table("Robust accuracy of the candidates", NUMBERS, rows, scale(result), f"{paper.HISTOGRAM} {here}"),
    ]


def _classifier(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = linear_classifier(observations, result.space)
    n = f"{2 * found.each:,}"
    rows = (
        ("accuracy on the candidates that it was fitted to, %", percents(found.training), n),
        (f"accuracy on others, {found.folds}-fold cross-validation, %", percents(found.validated), n),
        ("accuracy by chance, %", percent(0.5), n),
        (f"positive weights, % of {found.positive.n}", percents(found.positive), n),
        ("p of as many of one sign by chance", probability(found.p), n),
    )
    note = (
        f"{paper.CLASSIFIER} {paper.WEIGHTS} Here: {percent(found.training.value)} % on those that it was fitted to, "
        f"{percent(found.validated.value)} % on others; {percent(found.positive.value)} % of the weights are positive. "
        "Their interval takes weights for independent; they are not quite."
    )
    return [
        _drawing("4b. Weights of a linear classifier of α", pictures.weights(found)),
        Table("A linear classifier of α", NUMBERS, rows, scale(result), note),
    ]


def _embedding(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = embedding(observations)
    n = f"{len(found.labels):,}"
    rows = (
        ("nearest neighbour in α is of the same kind, %", percent(found.neighbours), n),
        ("by chance, %", percent(found.chance), n),
        ("p of as many with labels in random order", probability(found.p), n),
    )
    shares = (percent(share) for share in (found.neighbours, found.chance))
    here = "Here: {} % have a nearest neighbour of their kind, {} % would by chance.".format(*shares)
    return [
        _drawing("4a. α of the most and the least robust, by t-SNE", pictures.embedding(found)),
        Table("Are they apart in α?", NUMBERS, rows, scale(result), f"{paper.EMBEDDING} {here}"),
    ]


def _density(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = density(observations)
    n = f"{found.spearman.n:,}"
    rows = (
        ("Spearman's rank correlation with robust accuracy", coefficient(found.spearman), n),
        ("its p", probability(found.spearman.p), n),
        ("Kendall's tau-b", coefficient(found.kendall), n),
        ("Spearman's, at equal numbers of convolutions", coefficient(found.given_convs), n),
        ("Spearman's, at equal multiply-adds", coefficient(found.given_multiply_adds), n),
    )
    note = "Dense architectures have more convolutions and multiply-adds: the last two lines tell what is left without."
    return [
        _drawing("5. Density and robust accuracy", pictures.density(observations, found)),
        Table("Density and robust accuracy", NUMBERS, rows, scale(result), note),
    ]


def _convolutions(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = convolutions(observations)
    n = f"{found.direct.n:,}"
    rows = (
        ("rank correlation of their number and robust accuracy", coefficient(found.correlation), n),
        ("one more on a direct edge, points", points(found.direct), n),
        ("one more on a skip edge, points", points(found.skip), n),
        ("the difference, points", points(found.difference), n),
        ("variance explained by both, %", percent(found.explained), n),
    )
    note = (
        "By least squares on both numbers, with HC3 intervals. The paper: those on direct edges contribute more. Here: "
        f"{points(found.direct)} points for one on a direct edge, {points(found.skip)} for one on a skip edge."
    )
    return [
        _drawing("6a. Robust accuracy by the number of convolutions", pictures.convolutions(found)),
        Table("What a convolution adds", NUMBERS, rows, scale(result), note),
    ]


def _budgets(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = budgets(observations)
    rows = (
        ("candidates", *(f"{of.n:,}" for of in found.budgets)),
        ("robust accuracy, %", *(percents(of.robust) if of.robust else "–" for of in found.budgets)),
        ("rank correlation", *(coefficient(of.correlation) for of in found.budgets)),
        ("at equal numbers of convolutions", *(coefficient(of.given_convs) for of in found.budgets)),
    )
    columns = ("number", *(of.budget for of in found.budgets))
    means = (percent(of.robust.value) if of.robust else "–" for of in found.budgets)
    note = (
        "The rank correlation of robust accuracy with the share of convolutions that are on direct edges. The paper: "
        "positive under small and medium budgets, not obvious under the large one; and clear boundaries between "
        f"budgets. Here: {', '.join(means)} % on average."
    )
    return [
        _drawing("6b. Share of direct convolutions, by budget", pictures.budgets(observations, found)),
        Table("Budgets", columns, rows, scale(result), note),
    ]


def _fsp(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = fsp(observations)
    n = f"{found.n:,}"
    deep, shallow = found.positive
    before = len(found.cells) - found.last
    rows = (
        (
            f"rank correlation of the mean distance of the last {found.last} cells and the gap",
            coefficient(found.deep),
            n,
        ),
        ("its p", probability(found.deep.p), n),
        ("the same at equal clean accuracy", coefficient(found.given_clean), n),
        ("trend: rank correlation of depth and the cells' correlations", coefficient(found.trend), n),
        (f"of the last {found.last} cells, with an interval above 0", str(deep), n),
        (f"of the {before} cells before, with an interval above 0", str(shallow), n),
    )
    cells = tuple(
        (f"cell {depth}", coefficient(cell), probability(cell.p) if cell else "–")
        for depth, cell in enumerate(found.cells)
    )
    note = "The trend's interval is of a bootstrap over candidates. The paper: positive in the deeper cells."
    return [
        _drawing("8. FSP distance and gap, cell by cell", pictures.fsp(observations, found), wide=True),
        Table("FSP distance and gap", NUMBERS, rows, scale(result), note),
        Table("Cell by cell", ("cell", "rank correlation (95\u00a0% interval)", "p"), cells, scale(result)),
    ]


def _front(result: StudyResult, observations: Sequence[Observation]) -> list[Block]:
    found = front(observations)
    rows = tuple(
        (
            f"{one.group} {one.index}",
            percent(one.robust),
            f"{one.multiply_adds / 1e6:,.2f}",
            f"{one.parameters:,}",
        )
        for one in found.points
    )
    columns = ("candidate", "robust accuracy, %", "multiply-adds, millions", "parameters")
    chosen = frozenset(group.name for group in result.branch.groups if group.sampler)
    svg = pictures.front(observations, found, chosen=chosen, key=f"front-{result.kind}")
    return [
        _drawing("Robust accuracy and multiply-adds", svg),
        Table(f"The Pareto front of {found.n:,} candidates", columns, rows, scale(result)),
    ]
