"""The figures of a search's analysis as charts: one function a figure of the paper."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from robnet_zoo.reports.svg import Axis, Bar, Bars, Guide, Layer, Point, Series, chart, legend, panels
from robnet_zoo.search.analysis.figure3 import Finetuning, Histogram
from robnet_zoo.search.analysis.figure4 import Embedding, LinearClassifier
from robnet_zoo.search.analysis.figure5 import Density
from robnet_zoo.search.analysis.figure6 import Budgets, Convolutions
from robnet_zoo.search.analysis.figure7 import Fsp, fsp_observations
from robnet_zoo.search.analysis.observations import Observation, finetuned
from robnet_zoo.search.analysis.pareto import Front

ROBUST = Axis("robust accuracy after finetuning, %", kind="percent")
FEW = 3  # candidates from which a mean at a density is drawn
ROOM = 0.35  # of the span of means, above and below them


class Drawing(NamedTuple):
    """A drawing and its legend."""

    svg: Markup
    legend: tuple[tuple[Markup, str], ...]


def before_after(observations: Sequence[Observation], analysis: Finetuning) -> Drawing:
    """Draw figure 3a: robust accuracy of each candidate before and after finetuning."""
    points = []
    for each in finetuned(observations):
        if each.candidate.before is not None:
            text = f"{_name(each)}: {each.before.robust:.1%} before, {each.robust:.1%} after"
            points.append(Point(each.before.robust, each.robust, text=text))
    low = max(min(point.x for point in points), min(point.y for point in points))
    high = min(max(point.x for point in points), max(point.y for point in points))
    gain = 100 * analysis.improvement.value
    alt = f"Robust accuracy before and after finetuning of {len(points):,} candidates; on average {gain:+.1f} points."
    guide = [Guide("no change", (low, low), (high, high))] if high > low else []
    x = Axis("robust accuracy before finetuning, %", kind="percent")
    return _drawing(alt, [Series("", tuple(points), style="crowd"), *guide], x, ROBUST)


def histogram(analysis: Histogram) -> Drawing:
    """Draw figure 3b: how many candidates have which robust accuracy."""
    bars = []
    for (left, right), count in zip(pairwise(analysis.edges), analysis.counts, strict=True):
        gap = 0.04 * (right - left)
        text = f"{100 * left:.1f} to {100 * right:.1f} %: {count} candidate{'' if count == 1 else 's'}"
        bars.append(Bar(left + gap, right - gap, count, text))
    mean = analysis.mean.value
    middle = Series(f"mean {100 * mean:.1f}", (Point(mean, 0), Point(mean, max(analysis.counts))), style="line")
    alt = f"Histogram of robust accuracy of {analysis.mean.n:,} candidates, mean {100 * mean:.1f} %."
    return _drawing(alt, [Bars("", tuple(bars)), middle], ROBUST, Axis("candidates"))


def embedding(analysis: Embedding) -> Drawing:
    """Draw figure 4a: t-SNE of α of the most and the least robust candidates."""
    layers = []
    for label, name in ((1, "most robust"), (-1, "least robust")):
        chosen = [point for point, sign in zip(analysis.points, analysis.labels, strict=True) if sign == label]
        layers.append(Series(name, tuple(Point(x, y) for x, y in chosen), style="crowd"))
    half = len(analysis.points) // 2
    alt = (
        f"t-SNE of α of the {half} most and the {half} least robust candidates; "
        f"{100 * analysis.neighbours:.0f} % have a nearest neighbour of their own kind."
    )
    return _drawing(alt, layers, Axis(""), Axis(""), bare=True)


def weights(analysis: LinearClassifier) -> Drawing:
    """Draw figure 4b: the classifier's weight of each edge and operation, in a cell-free space the mean over depths."""
    names = list(dict.fromkeys(weight.operation for weight in analysis.weights))
    edges = list(dict.fromkeys(weight.edge for weight in analysis.weights))
    width, layers = 0.8 / len(names), []
    for position, name in enumerate(names):
        bars = []
        for index, edge in enumerate(edges):
            same = [w.value for w in analysis.weights if (w.edge, w.operation) == (edge, name)]
            left, value = index - 0.4 + position * width, float(np.mean(same))
            bars.append(Bar(left, left + width, value, f"{name} on {_arrow(edge)}: {value:+.2f}"))
        layers.append(Bars(name.replace("_", " "), tuple(bars)))
    share = 100 * analysis.positive.value
    alt = f"Weights of a linear classifier by edge and operation; {share:.0f} % of them are positive."
    ticks = tuple((float(index), _arrow(edge)) for index, edge in enumerate(edges))
    return _drawing(alt, layers, Axis("edge, source→target", ticks, upright=True), Axis("weight"))


def density(observations: Sequence[Observation], analysis: Density) -> Drawing:
    """Draw figure 5: density and robust accuracy of each candidate, and the mean at each density."""
    done = finetuned(observations)
    crowd = tuple(
        Point(each.density, each.robust, text=f"{_name(each)}: {each.robust:.1%} at density {each.density:.2f}")
        for each in done
    )
    robust: dict[float, list[float]] = {}
    for each in sorted(done, key=lambda each: each.density):
        robust.setdefault(each.density, []).append(each.robust)
    means = tuple(Point(at, float(np.mean(values))) for at, values in robust.items() if len(values) >= FEW)
    line = [Series("mean at a density", means, style="line")] if len(means) >= FEW else []
    alt = (
        f"Density against robust accuracy of {len(done):,} candidates; "
        f"Spearman's rank correlation {analysis.spearman.value:+.2f}."
    )
    return _drawing(alt, [Series("", crowd, style="crowd"), *line], Axis("density"), ROBUST)


def convolutions(analysis: Convolutions) -> Drawing:
    """Draw figure 6a: mean robust accuracy with its interval, by the number of convolutions a cell.

    An interval much wider than the differences between means is cut off.
    """
    layers = []
    for where, counts in analysis.at.items():
        points = []
        for at in counts:
            low, high = at.interval or (None, None)
            interval = f" ({at.interval:.1%})" if at.interval else ""
            text = f"{where}, {at.count}: mean {100 * at.mean:.1f} %{interval} of {at.n}"
            points.append(Point(at.count, at.mean, low, high, text=text))
        layers.append(Series(where if where == "all" else f"{where} edges", tuple(points), style="joined"))
    means = [at.mean for counts in analysis.at.values() for at in counts]
    room = ROOM * (max(means) - min(means)) + 0.005
    y = Axis("mean robust accuracy, %", kind="percent", limits=(max(0.0, min(means) - room), max(means) + room))
    alt = (
        f"Mean robust accuracy by the number of convolutions; one more adds {100 * analysis.direct.value:.2f} points "
        f"on a direct edge and {100 * analysis.skip.value:.2f} on a skip edge."
    )
    return _drawing(alt, layers, Axis("convolutions a cell"), y)


def budgets(observations: Sequence[Observation], analysis: Budgets) -> Drawing:
    """Draw figure 6b: the share of convolutions on direct edges and robust accuracy, under each budget."""
    layers, correlations = [], []
    shares = [(each, each.share) for each in finetuned(observations)]
    for budgeted in analysis.budgets:
        done = [(each, share) for each, share in shares if each.budget == budgeted.budget and share is not None]
        points = tuple(
            Point(share, each.robust, text=f"{_name(each)}: {each.robust:.1%} at a share of {share:.2f}")
            for each, share in done
        )
        layers.append(Series(budgeted.budget, points, style="crowd"))
        if budgeted.correlation:
            correlations.append(f"{budgeted.budget} {budgeted.correlation.value:+.2f}")
    words = ", ".join(correlations) or "none"
    alt = f"Share of direct convolutions against robust accuracy; rank correlations: {words}."
    return _drawing(alt, layers, Axis("share of convolutions on direct edges"), ROBUST)


def fsp(observations: Sequence[Observation], analysis: Fsp) -> Drawing:
    """Draw figures 7 and 8: the FSP distance of each cell and the gap of clean and robust accuracy."""
    measured = fsp_observations(observations)
    plots = []
    for depth, correlation in enumerate(analysis.cells):
        points = tuple(
            Point(
                each.candidate.fsp[depth],
                100 * each.before.gap,
                text=f"{_name(each)}: {100 * each.before.gap:.1f} points at {each.candidate.fsp[depth]:.3g}",
            )
            for each in measured
        )
        name = f"cell {depth}" if correlation is None else f"cell {depth}: {correlation.value:+.2f}"
        plots.append((name, [Series("", points, style="crowd")]))
    alt = (
        f"FSP distance against the gap of clean and robust accuracy of {analysis.n:,} candidates, a plot for each of "
        f"{len(analysis.cells)} cells, with rank correlations; of the last {analysis.last} together "
        f"{analysis.deep.value:+.2f}."
    )
    return Drawing(panels(alt, plots, Axis(""), Axis("")), ())


def front(observations: Sequence[Observation], analysis: Front, *, chosen: Collection[str] = ()) -> Drawing:
    """Draw robust accuracy and multiply-adds of each candidate, and the Pareto front.

    Args:
        observations: the candidates.
        analysis: their Pareto front.
        chosen: the groups whose candidates Optuna chose.
    """
    done = finetuned(observations)
    by_optuna = [each for each in done if each.candidate.group in chosen]
    others = [each for each in done if each.candidate.group not in chosen]
    best = tuple(
        Point(p.multiply_adds / 1e6, p.robust, text=_price(f"{p.group} {p.index}", p.multiply_adds, p.robust))
        for p in analysis.points
    )
    layers = [
        Series("drawn" if by_optuna and others else "", _prices(others), style="crowd"),
        Series("Pareto front", best, style="steps"),
        Series("chosen by Optuna" if by_optuna and others else "", _prices(by_optuna), style="crowd"),
    ]
    alt = (
        f"Multiply-adds against robust accuracy of {analysis.n:,} candidates, "
        f"{len(analysis.points)} on the Pareto front."
    )
    return _drawing(alt, layers, Axis("multiply-adds of an image, millions"), ROBUST)


def _prices(observations: Sequence[Observation]) -> tuple[Point, ...]:
    return tuple(
        Point(each.multiply_adds / 1e6, each.robust, text=_price(_name(each), each.multiply_adds, each.robust))
        for each in observations
    )


def _price(name: str, multiply_adds: int, robust: float) -> str:
    return f"{name}: {robust:.1%} for {multiply_adds / 1e6:.2f} M"


def _name(observation: Observation) -> str:
    return f"{observation.candidate.group} {observation.candidate.index}"


def _arrow(edge: str) -> str:
    return edge.replace("->", "→")


def _drawing(alt: str, layers: Sequence[Layer], x: Axis, y: Axis, *, bare: bool = False) -> Drawing:
    return Drawing(chart(alt, layers, x, y, bare=bare), legend(layers))
