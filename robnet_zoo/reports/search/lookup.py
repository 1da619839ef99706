"""How fast methods of search find good cells in a table: a table of numbers and a picture."""

from __future__ import annotations

import os

from robnet_zoo.genotype.draw import COLOURS, check_suffix, save_figure
from robnet_zoo.search.lookup import LookupResult

DASHES = ("-", "--", "-.", ":")


def lookup_table(result: LookupResult) -> str:
    """Return the mean best accuracy of each method after each number of evaluations, in percent, in Markdown."""
    heads = [f"after {count:,}" for count in result.evaluations]
    rows = [f"| method | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    rows += [
        f"| {progress.method} | {' | '.join(f'{best:.1%}' for best in progress.best)} |" for progress in result.progress
    ]
    return "\n".join(rows)


def draw_lookup(result: LookupResult, path: str | os.PathLike[str]) -> None:
    """Draw the mean best accuracy, with its interval, against the number of evaluations, into an .svg or .png file.

    Raises: ArgumentError for another suffix; OSError.
    """
    check_suffix(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, progress in enumerate(result.progress):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        means = [100 * best.value for best in progress.best]
        low, high = ([100 * best.interval[end] for best in progress.best] for end in (0, 1))
        axes.plot(result.evaluations, means, dash, color=colour, label=progress.method, marker="o", markersize=3)
        axes.fill_between(result.evaluations, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 * result.best, color="#1a202c", linewidth=0.8)
    axes.text(1, 100 * result.best, "the best cell of the table", fontsize=8, va="bottom")
    axes.set(xscale="log", xlabel="evaluations", ylabel="best robust accuracy so far, percent")
    axes.set_title(f"{result.space}, {result.robust}: mean of {result.seeds} seeds, 95 % intervals", fontsize=10)
    axes.legend(loc="lower right", frameon=False)
    save_figure(figure, path)
