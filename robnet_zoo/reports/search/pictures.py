"""The figures of an analysis as SVG: one function a figure of the paper, text that is put into a page as it stands.

Colours are the page's variables (--ink, --muted, --rule, --series-0, ...), with fixed ones where a page has none, so
that a page may be light or dark. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robnet_zoo.search.analysis.figure3 import Finetuning, Histogram
from robnet_zoo.search.analysis.figure4 import Embedding, LinearClassifier
from robnet_zoo.search.analysis.figure5 import Density
from robnet_zoo.search.analysis.figure6 import Budgets, Convolutions
from robnet_zoo.search.analysis.figure7 import Fsp, fsp_observations
from robnet_zoo.search.analysis.observations import Observation, finetuned
from robnet_zoo.search.analysis.pareto import Front

# Written by matplotlib as they stand, then replaced by the page's variables.
INK, MUTED, RULE = "#010101", "#010102", "#010103"
SERIES = ("#010110", "#010111", "#010112")
VARIABLES = {
    INK: "var(--ink, #1e2227)",
    MUTED: "var(--muted, #5a616b)",
    RULE: "var(--rule, #e2ded6)",
    SERIES[0]: "var(--series-0, #2c5c8c)",
    SERIES[1]: "var(--series-1, #b25a12)",
    SERIES[2]: "var(--series-2, #2b7a58)",
}
MARKS = ("o", "s", "^")
SIZE = (4.5, 3.3)  # inches; text is read on a phone as well
COLUMNS = 4  # of a grid of cells
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "robnet_zoo",
    "svg.fonttype": "none",  # text stays text
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "path.simplify": False,
}
ROBUST = "robust accuracy after finetuning, %"


def before_after(observations: Sequence[Observation], found: Finetuning, *, key: str = "figure3a") -> str:
    """Figure 3a: robust accuracy of each candidate before and after finetuning. key: what its ids begin with."""
    done = [one for one in finetuned(observations) if one.candidate.before is not None]
    before = [100 * one.before.robust for one in done]
    after = [100 * one.robust for one in done]
    with mpl.rc_context(STYLE):
        figure, axes = _axes("robust accuracy before finetuning, %", ROBUST)
        ends = [min(*before, *after), max(*before, *after)]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
        axes.annotate("no change", (ends[0], ends[0]), xytext=(26, 1), textcoords="offset points", color=MUTED)
        _points(axes, before, after)
        gain = 100 * found.improvement.value
        alt = f"Robust accuracy before and after finetuning of {len(done):,} candidates; on average {gain:+.1f} points."
        return _svg(figure, key, alt)


def histogram(found: Histogram, *, key: str = "figure3b") -> str:
    """Figure 3b: how many candidates have which robust accuracy."""
    edges = 100 * np.array(found.edges)
    with mpl.rc_context(STYLE):
        figure, axes = _axes(ROBUST, "candidates")
        axes.bar(edges[:-1], found.counts, np.diff(edges) * 0.92, align="edge", color=SERIES[0])
        average = 100 * found.mean.value
        axes.axvline(average, color=SERIES[1], linewidth=1.5, label=f"mean {average:.1f}")
        _legend(axes)
        alt = f"Histogram of robust accuracy of {found.mean.n:,} candidates, mean {average:.1f} %."
        return _svg(figure, key, alt)


def embedding(found: Embedding, *, key: str = "figure4a") -> str:
    """Figure 4a: t-SNE of α of the most and the least robust candidates."""
    points, labels = np.array(found.points), np.array(found.labels)
    with mpl.rc_context(STYLE):
        figure, axes = _axes("", "")
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        for series, (label, name) in enumerate(((1, "most robust"), (-1, "least robust"))):
            x, y = points[labels == label].T
            _points(axes, x.tolist(), y.tolist(), series=series, label=name)
        _legend(axes)
        alt = (
            f"t-SNE of α of the {len(points) // 2} most and the {len(points) // 2} least robust candidates; "
            f"{100 * found.neighbours:.0f} % have a nearest neighbour of their own kind."
        )
        return _svg(figure, key, alt)


def weights(found: LinearClassifier, *, key: str = "figure4b") -> str:
    """Figure 4b: the classifier's weight of each edge and operation; in a cell-free space, the mean over the depths."""
    names = list(dict.fromkeys(one.operation for one in found.weights))
    edges = list(dict.fromkeys(one.edge for one in found.weights))
    with mpl.rc_context(STYLE):
        figure, axes = _axes("edge, source→target", "weight")
        axes.grid(visible=False, axis="x")
        for place, name in enumerate(names):
            values = [
                np.mean([one.value for one in found.weights if (one.edge, one.operation) == (edge, name)])
                for edge in edges
            ]
            wide = 0.8 / len(names)
            left = np.arange(len(edges)) - 0.4 + (place + 0.5) * wide
            axes.bar(left, values, wide, color=SERIES[place % len(SERIES)], label=name.replace("_", " "))
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xticks(range(len(edges)), [edge.replace("->", "→") for edge in edges], rotation=90)
        _legend(axes)
        share = 100 * found.positive.value
        alt = f"Weights of a linear classifier by edge and operation; {share:.0f} % of them are positive."
        return _svg(figure, key, alt)


def density(observations: Sequence[Observation], found: Density, *, key: str = "figure5") -> str:
    """Figure 5: density and robust accuracy of each candidate, and the mean at each density."""
    done = finetuned(observations)
    dense, robust = np.array([one.density for one in done]), 100 * np.array([one.robust for one in done])
    with mpl.rc_context(STYLE):
        figure, axes = _axes("density", ROBUST)
        _points(axes, dense.tolist(), robust.tolist())
        levels = [level for level in np.unique(dense) if (dense == level).sum() > 2]
        if len(levels) > 2:
            means = [robust[dense == level].mean() for level in levels]
            axes.plot(levels, means, color=SERIES[1], linewidth=1.8, label="mean at a density")
            _legend(axes)
        alt = (
            f"Density against robust accuracy of {len(done):,} candidates; "
            f"Spearman's rank correlation {found.spearman.value:+.2f}."
        )
        return _svg(figure, key, alt)


def convolutions(found: Convolutions, *, key: str = "figure6a") -> str:
    """Figure 6a: mean robust accuracy with its interval, by the number of convolutions a cell."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes("convolutions a cell", "mean robust accuracy, %")
        for series, (where, points) in enumerate(found.at.items()):
            x, y = [one.count for one in points], [100 * one.mean for one in points]
            spans = [one.interval or (one.mean, one.mean) for one in points]
            reach = [
                [100 * (one.mean - low), 100 * (high - one.mean)]
                for one, (low, high) in zip(points, spans, strict=True)
            ]
            axes.errorbar(
                x,
                y,
                yerr=np.array(reach).T,
                color=SERIES[series],
                marker=MARKS[series],
                markersize=4,
                linewidth=1.4,
                elinewidth=0.8,
                label=where if where == "all" else f"{where} edges",
            )
        axes.set_ylim(*_limits([100 * one.mean for points in found.at.values() for one in points if one.interval]))
        _legend(axes)
        alt = (
            f"Mean robust accuracy by the number of convolutions; one more adds {100 * found.direct.value:.2f} points "
            f"on a direct edge and {100 * found.skip.value:.2f} on a skip edge."
        )
        return _svg(figure, key, alt)


def budgets(observations: Sequence[Observation], found: Budgets, *, key: str = "figure6b") -> str:
    """Figure 6b: the share of convolutions on direct edges and robust accuracy, under each budget."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes("share of convolutions on direct edges", ROBUST)
        told = []
        for series, of in enumerate(found.budgets):
            done = [one for one in finetuned(observations) if one.budget == of.budget and one.share is not None]
            x = [one.share or 0.0 for one in done]
            _points(axes, x, [100 * one.robust for one in done], series=series, label=of.budget)
            if of.correlation:
                told.append(f"{of.budget} {of.correlation.value:+.2f}")
        _legend(axes)
        alt = f"Share of direct convolutions against robust accuracy; rank correlations: {', '.join(told) or 'none'}."
        return _svg(figure, key, alt)


def fsp(observations: Sequence[Observation], found: Fsp, *, key: str = "figure8") -> str:
    """Figures 7 and 8: the FSP distance of each cell and the gap of clean and robust accuracy."""
    measured = fsp_observations(observations)
    gaps = [100 * one.before.gap for one in measured]
    rows = -(-len(found.cells) // COLUMNS)
    with mpl.rc_context(STYLE | {"font.size": 8, "axes.titlesize": 8}):
        figure = Figure(figsize=(7.4, 1.65 * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for depth, axes in enumerate(grid.flat):
            if depth >= len(found.cells):
                axes.set_visible(False)
                continue
            cell = found.cells[depth]
            axes.grid(visible=True, linewidth=0.6)
            _points(axes, [one.candidate.fsp[depth] for one in measured], gaps, small=True)
            axes.set_title(f"cell {depth}: {cell.value:+.2f}" if cell else f"cell {depth}", color=INK)
            axes.locator_params(axis="x", nbins=3)
            axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3), useMathText=False)
        figure.supxlabel("FSP distance", fontsize=9)
        figure.supylabel("clean − robust accuracy, points", fontsize=9)
        alt = (
            f"FSP distance against the gap of clean and robust accuracy of {found.n:,} candidates, a plot for each of "
            f"{len(found.cells)} cells, with rank correlations; of the last {found.last} together "
            f"{found.deep.value:+.2f}."
        )
        return _svg(figure, key, alt)


def front(
    observations: Sequence[Observation], found: Front, *, chosen: Collection[str] = (), key: str = "front"
) -> str:
    """Robust accuracy and multiply-adds of each candidate, and the Pareto front. chosen: groups that Optuna chose."""
    done = finetuned(observations)
    drawn = [one for one in done if one.candidate.group not in chosen]
    optuna = [one for one in done if one.candidate.group in chosen]
    with mpl.rc_context(STYLE):
        figure, axes = _axes("multiply-adds of an image, millions", ROBUST)
        for series, some in ((0, drawn), (2, optuna)):
            label = ("drawn" if series == 0 else "chosen by Optuna") if drawn and optuna else ""
            x, y = [one.multiply_adds / 1e6 for one in some], [100 * one.robust for one in some]
            _points(axes, x, y, series=series, label=label)
        x, y = [one.multiply_adds / 1e6 for one in found.points], [100 * one.robust for one in found.points]
        axes.step(x, y, where="post", color=SERIES[1], linewidth=1.4)
        axes.plot(x, y, linestyle="", marker="s", markersize=4, color=SERIES[1], label="Pareto front")
        _legend(axes)
        alt = (
            f"Multiply-adds against robust accuracy of {found.n:,} candidates, {len(found.points)} on the Pareto front."
        )
        return _svg(figure, key, alt)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True, linewidth=0.6)
    return figure, axes


def _points(
    axes: Axes, x: Sequence[float], y: Sequence[float], *, series: int = 0, label: str = "", small: bool = False
) -> None:
    """One mark a candidate; many fade, so that one sees where they are dense."""
    axes.plot(
        x,
        y,
        linestyle="",
        marker=MARKS[series],
        markersize=2.2 if small else 3.6,
        markeredgewidth=0,
        alpha=0.75 if len(x) < 200 else 0.5,
        color=SERIES[series],
        label=label or None,
    )


def _legend(axes: Axes) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)


def _limits(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Of an axis: what has an interval, with room, so that one wide interval does not flatten the rest."""
    if not values:
        return None, None
    room = 0.35 * (max(values) - min(values)) + 0.5
    return min(values) - room, max(values) + room


def _svg(figure: Figure, key: str, alt: str) -> str:
    """The figure as an svg element without size, ids that begin with `key`, and the page's colours."""
    file = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} '
        f'class="picture" role="img" aria-label={quoteattr(alt)} style="stroke-linejoin: round">'
    )
    text = text[text.index(">") + 1 :]
    text = text.replace(' id="', f' id="{key}-').replace('href="#', f'href="#{key}-').replace("url(#", f"url(#{key}-")
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)  # places; labels stay
    text = re.sub(r"<g([^>]*)>(\s*(?:<use [^>]*/>\s*)+)</g>", _styled_once, text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return opening + text.strip()


def _styled_once(group: re.Match[str]) -> str:
    """A group of marks of one style with the style on the group: half the bytes."""
    marks = group[2]
    styles = set(re.findall(r' style="[^"]*"', marks))
    if len(styles) != 1:
        return group[0]
    (style,) = styles
    return f"<g{group[1]}{style}>{marks.replace(style, '')}</g>"
