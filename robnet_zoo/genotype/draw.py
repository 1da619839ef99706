"""Pictures of cells, and of the network that they make."""

from __future__ import annotations

import colorsys
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from robnet_zoo.core.documents import nearest
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.blueprint import CellBlueprint, blueprint
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.passes import drop_dead_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One for each operation of the published search spaces; `colours` adds more where a spec uses more.
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#975a16", "#285e61", "#702459", "#4a5568")
GOLDEN = (5**0.5 - 1) / 2  # a turn by this share of the circle never comes near an earlier hue
ROW = 5  # cells beside each other in the picture of a network
WIDTH, HEIGHT = 2.4, 2.1  # of a cell there, in inches


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
    if name not in spec.cells:
        raise ArgumentError(f"name: unknown cell {name!r}{nearest(name, spec.cells)}")
    check_suffix(path)
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
    save_figure(figure, path)


def draw_network(spec: Genotype, path: str | os.PathLike[str]) -> None:
    """Draw a whole network into an .svg or .png file: the stem, every cell in its place, and the head.

    Rows are read like text. A cell has its depth and name, the depths whose outputs it reads, and the size of its
    output; a frame that is filled marks a reduction, an arc is one operation on one edge. What the output does not
    depend on is left out.

    Args:
        spec: the genotype.
        path: the file to write; its suffix is the format.

    Raises: ArgumentError for another suffix; OSError.
    """
    check_suffix(path)
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    plan, network = blueprint(drop_dead_edges(spec)), spec.network
    colour = dict(zip(spec.operations, colours(len(spec.operations)), strict=True))
    count = len(plan.cells) + 2
    columns, rows = min(count, ROW), -(-count // ROW)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 0.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, columns), ylim=(-rows, 0.9 / HEIGHT))
    axes.set_axis_off()
    first = plan.cells[0].inputs[1]
    texts = [f"stem: {network.stem}\n{first.channels} × {first.size[0]}×{first.size[1]}"]
    for depth, cell in enumerate(plan.cells):
        read = [depth - 2 + source for source in sorted(cell.preprocess)]
        reads = ", ".join("stem" if each < 0 else str(each) for each in dict.fromkeys(max(each, -1) for each in read))
        size = f"{cell.output.channels} × {cell.output.size[0]}×{cell.output.size[1]}"
        denoised = ", denoised" if cell.denoise else ""
        texts.append(f"{depth}: {spec.layout[depth]}\nreads {reads}; {size}{denoised}")
    texts.append(f"pool, linear\n{plan.num_classes} classes")
    for index, text in enumerate(texts):
        left, top = index % ROW, -(index // ROW)
        _frame(axes, left, top, text, filled=0 < index < count - 1 and plan.cells[index - 1].reduction)
        if 0 < index < count - 1:
            _arcs(axes, left, top, plan.cells[index - 1], colour)
        if index % ROW < ROW - 1 and index < count - 1:
            axes.annotate(
                "", (left + 1.04, top - 0.5), (left + 0.96, top - 0.5), arrowprops={"arrowstyle": "-|>", "lw": 1.2}
            )
    used = {operation for cell in plan.cells for carried in cell.edges.values() for operation in carried}
    axes.legend(
        handles=[Line2D([], [], color=colour[name], label=name) for name in spec.operations if name in used],
        loc="upper right",
        ncols=len(used) or 1,
        frameon=False,
    )
    axes.text(0.06, 0.55 / HEIGHT, f"{spec.name}: {len(plan.cells)} cells", fontsize=13, va="center")
    save_figure(figure, path)


def _frame(axes: Axes, left: float, top: float, text: str, *, filled: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    inside = "#e2e8f0" if filled else "#ffffff"
    corner = (left + 0.07, top - 0.93)
    axes.add_patch(FancyBboxPatch(corner, 0.86, 0.86, "round,pad=0,rounding_size=0.04", fc=inside, ec="#718096"))
    axes.text(left + 0.5, top - 0.2, text, ha="center", va="center", fontsize=8)


def _arcs(axes: Axes, left: float, top: float, cell: CellBlueprint, colour: dict[str, str]) -> None:
    """Draw the operations of a cell as arcs over its nodes, which lie on a line."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    nodes, middle = cell.nodes, top - 0.62
    x = {node: left + 0.15 + 0.7 * index / max(1, len(nodes) - 1) for index, node in enumerate(nodes)}
    names = list(colour)
    for (source, target), carried in cell.edges.items():
        for name in carried:
            index, length = names.index(name), x[target] - x[source]
            bend = (1 if index % 2 else -1) * length * (0.75 + 0.12 * (index // 2))
            between = ((x[source] + x[target]) / 2, middle + max(-0.5, min(0.5, bend)))
            curve = Curve(
                [(x[source], middle), between, (x[target], middle)], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]
            )
            axes.add_patch(PathPatch(curve, fc="none", ec=colour[name], lw=1.1))
    for node in nodes:
        face = "#1a202c" if node in cell.concat else "#ffffff"
        axes.plot(x[node], middle, "o", markersize=4.5, color=face, markeredgecolor="#1a202c", zorder=3)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise ArgumentError unless a picture's file ends in .svg or .png."""
    if Path(path).suffix.lower() not in (".svg", ".png"):
        raise ArgumentError(f"path: expected a file that ends in .svg or .png, got {Path(path).name!r}")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure of matplotlib in the format that its file's ending names."""
    buffer = BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lower()[1:])
    write_atomically(path, buffer.getvalue())


def colours(count: int) -> tuple[str, ...]:
    """Return that many different colours as `#rrggbb`, all dark enough for a white page: the fixed ones come first."""
    generated = []
    for index in range(max(0, count - len(COLOURS))):
        lightness = (0.3, 0.4, 0.5)[index % 3]
        red, green, blue = colorsys.hls_to_rgb((0.05 + index * GOLDEN) % 1, lightness, 0.65)
        generated.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return (*COLOURS[:count], *generated)
