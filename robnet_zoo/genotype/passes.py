"""Rewrites of a spec that keep the function it compiles to. Each is pure and is proved by a test.

A pass takes a Genotype and returns a Genotype, the same object if it changes nothing. `canonical` applies them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robnet_zoo.genotype.genotype import Cell, FrozenDict, Genotype, edges

Pass = Callable[[Genotype], Genotype]


def drop_dead_edges(spec: Genotype) -> Genotype:
    """Switch off every operation on an edge into a node that the output does not depend on, and those that add a zero.

    The shape of α stays, and so do the weight keys of what remains.
    """
    cells = {name: cell.without_dead_edges(spec.operations) for name, cell in spec.cells.items()}
    return _with_cells(spec, cells)


def drop_dead_nodes(spec: Genotype) -> Genotype:
    """Remove intermediate nodes that no operation leads from to the output, and renumber the others in order.

    This is the only pass that renames weight keys, so the compiler does without it: it never builds a dead node.
    """

    def rewrite(cell: Cell) -> Cell:
        kept = sorted(cell.live_nodes | {0, 1})
        rows: dict[tuple[int, int], tuple[int, ...]] = dict(zip(cell.edges, cell.alpha, strict=True))
        alpha = [rows[kept[source], kept[target]] for source, target in edges(len(kept) - 2)]
        return cell.model_copy(update={"alpha": alpha, "concat": [kept.index(node) for node in cell.concat]})

    return _with_cells(spec, {name: rewrite(cell) for name, cell in spec.cells.items()})


def drop_unused_operations(spec: Genotype) -> Genotype:
    """Remove operations that no edge carries and sort the others by name. Renames no weight key."""
    used = [k for k in range(len(spec.operations)) if any(row[k] for cell in spec.cells.values() for row in cell.alpha)]
    order = sorted(used, key=lambda k: spec.operations[k])
    cells = {
        name: cell.model_copy(update={"alpha": [[row[k] for k in order] for row in cell.alpha]})
        for name, cell in spec.cells.items()
    }
    return _with_cells(spec, cells, operations=tuple(spec.operations[k] for k in order))


def drop_unused_cells(spec: Genotype) -> Genotype:
    """Remove cells that the layout does not name."""
    return _with_cells(spec, {name: cell for name, cell in spec.cells.items() if name in spec.layout})


def merge_equal_cells(spec: Genotype) -> Genotype:
    """Give cells that are equal one name, `cell_0`, `cell_1`, ... in the order in which the layout first names them.

    Cells that the layout does not name are dropped. Weights are not merged: weight keys name the depth,
    not the cell.
    """
    names: dict[Cell, str] = {}
    for name in spec.layout:
        names.setdefault(spec.cells[name], f"cell_{len(names)}")
    layout = tuple(names[spec.cells[name]] for name in spec.layout)
    return _with_cells(spec, {name: cell for cell, name in names.items()}, layout=layout)


# In this order no pass leaves work for an earlier one. The compiler's share keeps every weight key as it is.
COMPILER_PASSES: tuple[Pass, ...] = (drop_unused_cells, drop_dead_edges, drop_unused_operations, merge_equal_cells)
CANONICAL_PASSES: tuple[Pass, ...] = (
    drop_unused_cells,
    drop_dead_edges,
    drop_dead_nodes,
    drop_unused_operations,
    merge_equal_cells,
)


def apply(spec: Genotype, passes: tuple[Pass, ...]) -> Genotype:
    """Return the spec after all the passes, in order."""
    for rewrite in passes:
        spec = rewrite(spec)
    return spec


def canonical(spec: Genotype) -> Genotype:
    """Return the spec in canonical form: specs with the same `hash` then differ only in name and provenance."""
    return apply(spec, CANONICAL_PASSES)


def _with_cells(spec: Genotype, cells: dict[str, Cell], **others: Any) -> Genotype:
    """Return the spec with these cells and other changed keys; the spec itself if nothing differs."""
    update = others | {"cells": FrozenDict(cells)}
    if all(getattr(spec, key) == value for key, value in update.items()):
        return spec
    return spec.model_copy(update=update)
