"""A picture of every cell of an architecture, as SVG: the same operation has the same colour in all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from robnet_zoo.genotype.draw import colours
from robnet_zoo.genotype.genotype import Cell, Edge, Genotype
from robnet_zoo.genotype.operations import OPERATIONS

GAP, RADIUS, STROKE = 74.0, 15.0, 5.0  # between nodes; of a node; between the strokes of one edge
LINE, MARGIN, COLUMNS = 22.0, 16.0, 2
INK, PAPER, INPUT = "#1a202c", "#ffffff", "#edf2f7"


def picture(spec: Genotype) -> str:
    """Return the drawing of all different cells of an architecture, in the order of their first depths.

    A stroke is an operation, from left to right; without those that do not change the output. Nodes with a thick edge
    are concatenated to the output, and those with a dashed one are zero.
    """
    names: dict[Cell, list[int]] = {}
    for depth, name in enumerate(spec.layout):
        names.setdefault(spec.cells[name].without_dead_edges(spec.operations), []).append(depth)
    used = {name for cell in names for _, name in cell.active(spec.operations)}
    colour = dict(zip(OPERATIONS, colours(len(OPERATIONS)), strict=True))
    panels = [_panel(cell, depths, spec, colour) for cell, depths in names.items()]
    width = max(panel[0] for panel in panels)
    columns = min(COLUMNS, len(panels))
    parts, y = [], MARGIN
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        for column, (_, _, text) in enumerate(row):
            parts.append(f'<g transform="translate({MARGIN + column * (width + 2 * MARGIN):g} {y:g})">\n{text}</g>')
        y += max(panel[1] for panel in row) + MARGIN
    total = columns * width + (columns - 1) * 2 * MARGIN + 2 * MARGIN
    legend, y = _legend([name for name in OPERATIONS if name in used], colour, y, total)
    title = f"Cells of {escape(spec.name)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:g} {y:g}" width="{total:g}" '
            f'font-family="sans-serif" font-size="12" fill="none" role="img" aria-label="{title}">',
            f'<title>{title}</title><rect width="100%" height="100%" fill="{PAPER}"/>',
            *parts,
            legend,
            "</svg>\n",
        ]
    )


def depths_in_words(depths: Sequence[int]) -> str:
    """Return ascending depths with runs in short: `0 – 5, 7`."""
    runs: list[list[int]] = []
    for depth in depths:
        if runs and runs[-1][1] == depth - 1:
            runs[-1][1] = depth
        else:
            runs.append([depth, depth])
    return ", ".join(str(first) if first == last else f"{first} – {last}" for first, last in runs)


def _panel(cell: Cell, depths: list[int], spec: Genotype, colour: dict[str, str]) -> tuple[float, float, str]:
    """Return (width, height, elements) of the drawing of one cell."""
    nodes = sorted(cell.live_nodes | {0, 1})
    x = {node: RADIUS + 2 + index * GAP for index, node in enumerate(nodes)}
    carried: dict[Edge, list[str]] = {}
    for edge, name in cell.active(spec.operations):
        carried.setdefault(edge, []).append(name)
    rises = {edge: _rise(nodes.index(edge[0]), nodes.index(edge[1])) for edge in carried}
    above = max([40.0, *rises.values()]) * 0.75 + RADIUS
    below = max([40.0, *(-rise for rise in rises.values())]) * 0.75 + RADIUS
    middle = LINE + above
    reduced = " (halves the size)" if set(depths) & set(spec.network.reductions) else ""
    head = f"depth {depths_in_words(depths)}{reduced}"
    parts = [f'<text x="0" y="12" fill="{INK}">{head}</text>\n']
    for edge, operations in carried.items():
        for index, name in enumerate(operations):
            shift = (index - (len(operations) - 1) / 2) * STROKE
            path = _path(x[edge[0]], x[edge[1]], middle, rises[edge], shift)
            parts.append(f'<path d="{path}" stroke="{colour[name]}" stroke-width="2"/>\n')
    zeros = cell.zeros(spec.operations)
    for node in nodes:
        style = ' stroke-width="3"' if node in cell.concat else ""
        style += ' stroke-dasharray="4 3"' if node in zeros else ""
        fill = INPUT if node < 2 else PAPER
        parts.append(f'<circle cx="{x[node]:g}" cy="{middle:g}" r="{RADIUS:g}" fill="{fill}" stroke="{INK}"{style}/>')
        parts.append(f'<text x="{x[node]:g}" y="{middle + 4:g}" text-anchor="middle" fill="{INK}">{node}</text>\n')
    return x[nodes[-1]] + RADIUS + 2, middle + below, "".join(parts)


def _rise(source: int, target: int) -> float:
    """Return how high the arc between two positions goes: above for even sources, below for odd ones."""
    span = target - source
    return 0.0 if span == 1 else (-1 if source % 2 else 1) * (14 + 25.0 * (span - 1))


def _path(left: float, right: float, middle: float, rise: float, shift: float) -> str:
    """Return the path of a stroke with an arrow's head. shift: its distance from the middle of the edge."""
    if rise == 0:
        y, end = middle + shift, right - RADIUS - 2
        return f"M{left + RADIUS:g} {y:g}H{end:g}m-5 -3l5 3l-5 3"
    way = 1 if rise > 0 else -1
    start, end, top = left + 9, right - 9 - shift * 0.6, middle - rise - way * (shift + 14)
    y, lean = middle - way * (RADIUS - 2), (right - left) * 0.2
    head = f"m-5 {-way * 4:g}l5 {way * 4:g}l1 {-way * 6:g}"
    return f"M{start:g} {y:g}C{left + lean:.4g} {top:g} {right - lean:.4g} {top:g} {end:g} {y - way * 2:g}{head}"


def _legend(names: Sequence[str], colour: dict[str, str], y: float, width: float) -> tuple[str, float]:
    """Return the marks of operations in lines that are not longer than the drawing, and where they end."""
    parts: list[str] = []
    x = MARGIN
    for name in names:
        length = 34 + 7.4 * len(name)
        if x > MARGIN and x + length > width:
            x, y = MARGIN, y + LINE
        parts.append(f'<path d="M{x:g} {y + 8:g}h18" stroke="{colour[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 24:g}" y="{y + 12:g}" fill="{INK}">{escape(name)}</text>')
        x += length
    return "".join(parts), y + LINE + MARGIN / 2
