"""What can be done to a draft: each change is a small document that returns the next draft.

The page sends a change and shows what comes back. It does not know how α is laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from robnet_zoo.core.documents import Document, nearest, shown
from robnet_zoo.editor.draft import Draft, DraftCell
from robnet_zoo.errors import EditorError
from robnet_zoo.genotype.genotype import MAX_DEPTH, MAX_NODES, Edge, Name, edges
from robnet_zoo.genotype.layers import DenoiseForm
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.passes import CANONICAL_PASSES, COMPILER_PASSES, Pass

PASSES: dict[str, Pass] = {rewrite.__name__: rewrite for rewrite in (*COMPILER_PASSES, *CANONICAL_PASSES)}
Row = tuple[int, ...]


class Change(Document):
    """Base of all changes."""

    def apply(self, draft: Draft) -> Draft:
        """Return the changed draft. Raises EditorError or DocumentError if it cannot be changed so."""
        raise NotImplementedError


class CellChange(Change):
    """Base of the changes of one cell."""

    cell: str

    def apply(self, draft: Draft) -> Draft:
        return _with_cell(draft, self.cell, self.changed(_cell(draft, self.cell), draft.operations))

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        """Return the changed cell. operations: of the draft."""
        raise NotImplementedError


class Switch(CellChange):
    """Switch an operation on an edge on or off."""

    kind: Literal["switch"]
    source: int
    target: int
    operation: str

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        edge = Edge((self.source, self.target))
        if edge not in cell.edges:
            raise EditorError(f"expected an edge of the cell {self.cell}, got {edge}")
        if self.operation not in operations:
            raise EditorError(f"unknown operation {shown(self.operation)}{nearest(self.operation, operations)}")
        at = operations.index(self.operation)
        rows = dict(zip(cell.edges, cell.alpha, strict=True))
        row = rows[edge]
        return _cell_of(rows | {edge: (*row[:at], 1 - row[at], *row[at + 1 :])}, cell.concat)


class Clear(CellChange):
    """Switch off every operation of a cell."""

    kind: Literal["clear"]

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        return _cell_of(dict.fromkeys(cell.edges, (0,) * len(operations)), cell.concat)


class AddNode(CellChange):
    """Add an intermediate node behind the others, without edges, to the output too."""

    kind: Literal["add_node"]

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        if cell.nodes == MAX_NODES:
            raise EditorError(f"{self.cell}: expected at most {MAX_NODES} intermediate nodes, got another")
        rows = dict(zip(cell.edges, cell.alpha, strict=True))
        empty = (0,) * len(operations)
        return _cell_of({edge: rows.get(edge, empty) for edge in edges(cell.nodes + 1)}, (*cell.concat, 2 + cell.nodes))


class RemoveNode(CellChange):
    """Remove an intermediate node with its edges; the nodes behind it move up."""

    kind: Literal["remove_node"]
    node: int

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        _check_node(cell, self.node)
        if cell.nodes == 1:
            raise EditorError(f"{self.cell}: expected another node to stay, got a cell of one")
        kept = [node for node in range(2 + cell.nodes) if node != self.node]
        rows: dict[tuple[int, int], Row] = dict(zip(cell.edges, cell.alpha, strict=True))
        renumbered = {edge: rows[kept[edge[0]], kept[edge[1]]] for edge in edges(cell.nodes - 1)}
        return _cell_of(renumbered, tuple(kept.index(node) for node in cell.concat if node in kept))


class Join(CellChange):
    """Take a node into the cell's output, or out of it."""

    kind: Literal["join"]
    node: int

    def changed(self, cell: DraftCell, operations: tuple[str, ...]) -> DraftCell:
        _check_node(cell, self.node)
        return cell.model_copy(update={"concat": sorted({*cell.concat} ^ {self.node})})


class CopyCell(Change):
    """Add a copy of a cell under another name, and put it at a depth if one is given."""

    kind: Literal["copy_cell"]
    cell: str
    name: Name
    depth: int | None = None

    def apply(self, draft: Draft) -> Draft:
        cell = _cell(draft, self.cell)
        if self.name in draft.cells:
            raise EditorError(f"expected a new name for the cell, got {self.name}, which there is already")
        layout = list(draft.layout)
        if self.depth is not None:
            layout[_depth(draft, self.depth)] = self.name
        return draft.model_copy(update={"cells": {**draft.cells, self.name: cell}, "layout": layout})


class RenameCell(Change):
    """Give a cell another name."""

    kind: Literal["rename_cell"]
    cell: str
    name: Name

    def apply(self, draft: Draft) -> Draft:
        _cell(draft, self.cell)
        if self.name in draft.cells and self.name != self.cell:
            raise EditorError(f"expected a new name for the cell, got {self.name}, which there is already")
        cells = {self.name if name == self.cell else name: cell for name, cell in draft.cells.items()}
        layout = [self.name if name == self.cell else name for name in draft.layout]
        return draft.model_copy(update={"cells": cells, "layout": layout})


class RemoveCell(Change):
    """Remove a cell that the layout does not name."""

    kind: Literal["remove_cell"]
    cell: str

    def apply(self, draft: Draft) -> Draft:
        _cell(draft, self.cell)
        if self.cell in draft.layout:
            raise EditorError(f"expected a cell that the layout does not name, got {self.cell}")
        return draft.model_copy(
            update={"cells": {name: cell for name, cell in draft.cells.items() if name != self.cell}}
        )


class Put(Change):
    """Put a cell at a depth of the layout, or at every depth if none is given."""

    kind: Literal["put"]
    cell: str
    depth: int | None = None

    def apply(self, draft: Draft) -> Draft:
        _cell(draft, self.cell)
        depths = range(len(draft.layout)) if self.depth is None else [_depth(draft, self.depth)]
        layout = [self.cell if depth in depths else name for depth, name in enumerate(draft.layout)]
        return draft.model_copy(update={"layout": layout})


class SetDepth(Change):
    """Give the network another number of cells: the last one is repeated, or the last ones go."""

    kind: Literal["depth"]
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)]

    def apply(self, draft: Draft) -> Draft:
        layout = [*draft.layout, *[draft.layout[-1]] * self.depth][: self.depth]
        return _with_layout(draft, layout, lambda depth: depth if depth < self.depth else None)


class Insert(Change):
    """Insert a second cell like the one at a depth behind it."""

    kind: Literal["insert"]
    depth: int

    def apply(self, draft: Draft) -> Draft:
        depth = _depth(draft, self.depth)
        layout = [*draft.layout[: depth + 1], *draft.layout[depth:]]
        if len(layout) > MAX_DEPTH:
            raise EditorError(f"expected at most {MAX_DEPTH} cells, got another")
        return _with_layout(draft, layout, lambda other: other if other <= depth else other + 1)


class Remove(Change):
    """Take the cell at a depth out of the layout."""

    kind: Literal["remove"]
    depth: int

    def apply(self, draft: Draft) -> Draft:
        depth = _depth(draft, self.depth)
        if len(draft.layout) == 1:
            raise EditorError("expected another cell to stay in the layout, got the only one")
        layout = [name for index, name in enumerate(draft.layout) if index != depth]
        return _with_layout(draft, layout, lambda other: None if other == depth else other - (other > depth))


class Reduce(Change):
    """Make the cell at a depth halve the size and double the channels, or stop it."""

    kind: Literal["reduce"]
    depth: int

    def apply(self, draft: Draft) -> Draft:
        reductions = {*draft.network.reductions} ^ {_depth(draft, self.depth)}
        return _with_network(draft, {"reductions": sorted(reductions)})


class SetNetwork(Change):
    """Change the network around the cells; keys that are not given stay."""

    kind: Literal["network"]
    stem: Any = None
    channels: Any = None
    num_classes: Any = None
    input_size: Any = None
    affine: Any = None

    def apply(self, draft: Draft) -> Draft:
        given = self.model_dump(exclude={"kind"}, exclude_none=True)
        return _with_network(draft, given)


class SetDenoise(Change):
    """Put a denoising block of some form behind each stage, or none."""

    kind: Literal["denoise"]
    form: DenoiseForm | None

    def apply(self, draft: Draft) -> Draft:
        if self.form is None:
            return _with_network(draft, {"denoise": None})
        denoised = draft.spec(source=draft.name).denoised(self.form).network.denoise
        return _with_network(draft, {"denoise": denoised and denoised.model_dump()})


class Rename(Change):
    """Give the architecture another name."""

    kind: Literal["rename"]
    name: Name

    def apply(self, draft: Draft) -> Draft:
        return draft.model_copy(update={"name": self.name})


class Vocabulary(Change):
    """Add an operation to those that edges may carry, or take it away from all of them."""

    kind: Literal["vocabulary"]
    operation: str

    def apply(self, draft: Draft) -> Draft:
        names = draft.operations
        if self.operation not in OPERATIONS:
            raise EditorError(f"unknown operation {shown(self.operation)}{nearest(self.operation, OPERATIONS)}")
        if names == (self.operation,):
            raise EditorError("expected another operation to stay, got the only one")
        left = [name for name in names if name != self.operation]
        others = left if self.operation in names else [*names, self.operation]
        cells = {
            name: cell.model_copy(
                update={
                    "alpha": [
                        [row[names.index(other)] if other in names else 0 for other in others] for row in cell.alpha
                    ]
                }
            ).model_dump()
            for name, cell in draft.cells.items()
        }
        return draft.model_copy(update={"operations": others, "cells": cells})


class ApplyPass(Change):
    """Apply a pass of the compiler, which keeps the function."""

    kind: Literal["pass"]
    name: str

    def apply(self, draft: Draft) -> Draft:
        if self.name not in PASSES:
            raise EditorError(f"unknown pass {shown(self.name)}{nearest(self.name, PASSES)}")
        return Draft.of_spec(PASSES[self.name](draft.spec(source=draft.name)))


AnyChange = Annotated[
    Switch
    | Clear
    | AddNode
    | RemoveNode
    | Join
    | CopyCell
    | RenameCell
    | RemoveCell
    | Put
    | SetDepth
    | Insert
    | Remove
    | Reduce
    | SetNetwork
    | SetDenoise
    | Rename
    | Vocabulary
    | ApplyPass,
    Field(discriminator="kind"),
]


def _cell(draft: Draft, name: str) -> DraftCell:
    if name not in draft.cells:
        raise EditorError(f"unknown cell {shown(name)}{nearest(name, draft.cells)}")
    return draft.cells[name]


def _check_node(cell: DraftCell, node: int) -> None:
    if not 2 <= node <= 1 + cell.nodes:
        raise EditorError(f"expected an intermediate node from 2 to {1 + cell.nodes}, got {node}")


def _depth(draft: Draft, depth: int) -> int:
    if not 0 <= depth < len(draft.layout):
        raise EditorError(f"expected a depth from 0 to {len(draft.layout) - 1}, got {depth}")
    return depth


def _cell_of(rows: dict[Edge, Row], concat: Iterable[int]) -> DraftCell:
    return DraftCell.parse({"alpha": tuple(rows.values()), "concat": tuple(concat)})


def _with_cell(draft: Draft, name: str, cell: DraftCell) -> Draft:
    return draft.model_copy(update={"cells": {**draft.cells, name: cell}})


def _with_network(draft: Draft, changes: dict[str, Any]) -> Draft:
    return draft.model_copy(update={"network": draft.network.model_dump() | changes})


def _with_layout(draft: Draft, layout: list[str], moved: Callable[[int], int | None]) -> Draft:
    """Return the draft with another layout; reductions and denoising blocks move along with their cells.

    Args:
        draft: what is changed.
        layout: the cell at each depth.
        moved: gives the new depth of what was at a depth, or None if that is gone.
    """

    def follow(depths: Iterable[int]) -> list[int]:
        return [new for depth in depths if (new := moved(depth)) is not None]

    network = draft.network.model_dump()
    network |= {"depth": len(layout), "reductions": follow(network["reductions"])}
    if network["denoise"] is not None:
        after = follow(network["denoise"]["after"])
        network["denoise"] = network["denoise"] | {"after": after} if after else None
    return draft.model_copy(update={"layout": layout, "network": network})
