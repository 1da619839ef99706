"""Rewrites of a spec that keep the function it compiles to. Each is pure and is proved by a test.

A pass takes a Genotype and returns a Genotype, the same object if it changes nothing. `canonical` applies them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robnet_zoo.genotype import Cell, FrozenDict, Genotype, edges

Pass = Callable[[Genotype], Genotype]


def drop_dead_edges(spec: Genotype) -> Genotype:
    """Switch off every operation on an edge into a node that the output does not depend on.

    Keeps the shape of α and all weight keys that remain.
    """

    def rewrite(cell: Cell) -> Cell:
        rows = zip(cell.edges, cell.alpha, strict=True)
        return _cell(alpha=[row if edge[1] in cell.live_nodes else (0,) * len(row) for edge, row in rows], like=cell)

    return _with_cells(spec, {name: rewrite(cell) for name, cell in spec.cells.items()})


def drop_dead_nodes(spec: Genotype) -> Genotype:
    """Remove intermediate nodes that the output does not depend on, and number the others anew, in order.

    The only pass that renames weight keys, so the compiler does without it: it never builds a dead node.
    """

    def rewrite(cell: Cell) -> Cell:
        kept = sorted(cell.live_nodes | {0, 1})
        old = dict(zip(cell.edges, cell.alpha, strict=True))
        alpha = [old[kept[source], kept[target]] for source, target in edges(len(kept) - 2)]  # type: ignore[index]
        return _cell(alpha=alpha, concat=[kept.index(node) for node in cell.concat], like=cell)

    return _with_cells(spec, {name: rewrite(cell) for name, cell in spec.cells.items()})


def drop_unused_operations(spec: Genotype) -> Genotype:
    """Remove operations that no edge carries and sort the others by name. Renames no weight key."""
    used = [k for k in range(len(spec.operations)) if any(row[k] for cell in spec.cells.values() for row in cell.alpha)]
    order = sorted(used, key=lambda k: spec.operations[k])
    if order == list(range(len(spec.operations))):
        return spec
    cells = {
        name: _cell(alpha=[[row[k] for k in order] for row in cell.alpha], like=cell)
        for name, cell in spec.cells.items()
    }
    return _with_cells(spec, cells, operations=tuple(spec.operations[k] for k in order))


def drop_unused_cells(spec: Genotype) -> Genotype:
    """Remove cells that the layout does not name."""
    return _with_cells(spec, {name: cell for name, cell in spec.cells.items() if name in spec.layout})


def merge_equal_cells(spec: Genotype) -> Genotype:
    """Give cells that are equal one name, `cell_0`, `cell_1`, ... in the order in which the layout first names them.

    Weights are not merged: weight keys name the depth, not the cell.
    """
    names: dict[Cell, str] = {}
    for name in spec.layout:
        names.setdefault(spec.cells[name], f"cell_{len(names)}")
    layout = tuple(names[spec.cells[name]] for name in spec.layout)
    unused = {name: cell for name, cell in spec.cells.items() if cell not in names}
    return _with_cells(spec, {name: cell for cell, name in names.items()} | unused, layout=layout)


# In this order no pass leaves work for an earlier one. The compiler's share keeps every weight key as it is.
COMPILER_PASSES: tuple[Pass, ...] = (drop_unused_cells, drop_dead_edges, drop_unused_operations, merge_equal_cells)
CANONICAL_PASSES: tuple[Pass, ...] = (
    drop_unused_cells,
    drop_dead_nodes,
    drop_dead_edges,
    drop_unused_operations,
    merge_equal_cells,
)


def apply(spec: Genotype, passes: tuple[Pass, ...]) -> Genotype:
    """The spec after all the passes, in order."""
    for rewrite in passes:
        spec = rewrite(spec)
    return spec


def canonical(spec: Genotype) -> Genotype:
    """The spec in canonical form: specs with the same `hash` differ in name and provenance alone."""
    return apply(spec, CANONICAL_PASSES)


def _cell(*, alpha: Any, like: Cell, concat: Any = None) -> Cell:
    cell = Cell(alpha=alpha, concat=like.concat if concat is None else concat)
    return like if cell == like else cell


def _with_cells(spec: Genotype, cells: dict[str, Cell], **update: Any) -> Genotype:
    update["cells"] = FrozenDict(cells)
    if all(getattr(spec, key) == value for key, value in update.items()):
        return spec
    data = dict(spec) | update
    return Genotype.model_validate(data)
