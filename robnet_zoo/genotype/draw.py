"""Pictures of cells."""

from __future__ import annotations

import colorsys
import os
from io import BytesIO
from pathlib import Path

from robnet_zoo.core.documents import nearest
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.genotype import Genotype

# One for each operation of the published search spaces; `colours` adds more where a spec uses more.
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#285e61", "#702459", "#4a5568")
GOLDEN = (5**0.5 - 1) / 2  # a turn by this share of the circle never comes near an earlier hue


def draw_cell(spec: Genotype, name: str, path: str | os.PathLike[str]) -> None:
    """Draw a cell as a graph into an .svg or .png file.

    The inputs are on the left, the output on the right; an arc is one operation on one edge, coloured by operation.
    A node that nothing reaches is marked as zero. Operations that the output does not depend on are left out, as the
    compiler leaves them out.

    Args:
        spec: the genotype that has the cell.
        name: the cell's name in `spec.cells`.
        path: the file to write; its suffix is the format.

    Raises: ArgumentError for an unknown cell and for another suffix; OSError.
    """
    suffix = Path(path).suffix.lower()
    if name not in spec.cells:
        raise ArgumentError(f"name: unknown cell {name!r}{nearest(name, spec.cells)}")
    if suffix not in (".svg", ".png"):
        raise ArgumentError(f"path: expected a file that ends in .svg or .png, got {Path(path).name!r}")
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    cell = spec.cells[name].without_dead_edges(spec.operations)
    zeros = cell.zeros(spec.operations)
    nodes = sorted(cell.live_nodes | {0, 1})
    x = {node: 1.5 * index for index, node in enumerate(nodes)}
    output = 1.5 * len(nodes)
    figure = Figure(figsize=(1.9 * (len(nodes) + 1), 4), layout="constrained")
    axes = figure.subplots()
    colour = dict(zip(spec.operations, colours(len(spec.operations)), strict=True))
    used = list(cell.active(spec.operations))
    for (source, target), operation in used:
        index = spec.operations.index(operation)
        bend = (1 if index % 2 else -1) * (0.25 + 0.06 * (index // 2))  # operations of one edge take different paths
        arrow = FancyArrowPatch(
            (x[source], 0),
            (x[target], 0),
            connectionstyle=f"arc3,rad={bend if target - source > 1 else bend * 0.8}",
            arrowstyle="-|>",
            mutation_scale=14,
            shrinkA=17,
            shrinkB=17,
            linewidth=1.6,
            color=colour[operation],
        )
        axes.add_patch(arrow)
    for node in nodes:
        label = {0: "0\nbefore", 1: "1\nlast"}.get(node, f"{node}\nzero" if node in zeros else str(node))
        inside = "#edf2f7" if node < 2 else "#ffffff"
        axes.plot(x[node], 0, "o", markersize=32, color=inside, markeredgecolor="#1a202c", zorder=3)
        axes.text(x[node], 0, label, ha="center", va="center", fontsize=9, zorder=4)
    joined = ", ".join(str(node) for node in cell.concat)
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#edf2f7", "edgecolor": "#1a202c"}
    axes.text(output, 0, f"concat\n{joined}", ha="center", va="center", fontsize=9, bbox=box)
    shown = [operation for operation in spec.operations if any(operation == carried for _, carried in used)]
    axes.legend(
        handles=[Line2D([], [], color=colour[operation], label=operation) for operation in shown],
        loc="upper left",
        frameon=False,
    )
    axes.set_title(f"{spec.name}: {name}")
    height = 0.36 * x[nodes[-1]]
    axes.set(xlim=(-0.9, output + 0.9), ylim=(-height, height))
    axes.set_axis_off()
    buffer = BytesIO()
    figure.savefig(buffer, format=suffix[1:])
    write_atomically(path, buffer.getvalue())


def colours(count: int) -> tuple[str, ...]:
    """Return that many different colours as `#rrggbb`, all dark enough for a white page: the fixed ones come first."""
    generated = []
    for index in range(max(0, count - len(COLOURS))):
        lightness = (0.3, 0.4, 0.5)[index % 3]
        red, green, blue = colorsys.hls_to_rgb((0.05 + index * GOLDEN) % 1, lightness, 0.65)
        generated.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return (*COLOURS[:count], *generated)
