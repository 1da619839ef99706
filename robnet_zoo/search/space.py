"""The search space: architectures that differ only in α (paper, section 3.2 and, without shared cells, 3.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.core.documents import Document, Tuple, called
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import MAX_NODES, SCHEMA_VERSION, Cell, Genotype, NetworkConfig, Provenance, edges
from robnet_zoo.genotype.operations import OPERATIONS

Code = Annotated[
    str,
    Field(
        pattern=r"^[01]+( [01]+)*$",
        description="α of a cell: a word of digits an edge, by target, then source; a digit, 0 or 1, an operation",
    ),
    called("words of 0 and 1"),
]
Codes = Annotated[Tuple[Code], Field(description="α of an architecture: one cell for all depths, or one a depth")]
Kind = Literal["cell_based", "cell_free"]


class SearchSpace(Document):
    """All α over some operations in a network.

    Args:
        kind: `cell_based` has the same cell at every depth, `cell_free` a different one at each.
        nodes: how many intermediate nodes a cell has; all of them are concatenated.
        operations: those that α's last axis indexes.
        network: what architectures are compiled in.
    """

    kind: Kind
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = 4
    operations: Tuple[str] = ("identity", "sep_conv_3x3")
    network: NetworkConfig

    @property
    def cells(self) -> int:
        """Return how many cells an architecture chooses."""
        return 1 if self.kind == "cell_based" else self.network.depth

    @property
    def bits(self) -> int:
        """Return how many bits a cell has, one for each pair of an edge and an operation."""
        return len(edges(self.nodes)) * len(self.operations)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return what each bit of a cell stands for, in order: `0->2 identity`, ..."""
        return tuple(f"{edge} {name}" for edge in edges(self.nodes) for name in self.operations)

    @property
    def convs(self) -> tuple[bool, ...]:
        """Return whether each bit of a cell is a convolution."""
        return tuple(OPERATIONS[name].is_conv for _ in edges(self.nodes) for name in self.operations)

    def genotype(
        self,
        codes: Sequence[str],
        *,
        name: str,
        network: NetworkConfig | None = None,
        provenance: Provenance | None = None,
    ) -> Genotype:
        """Return the spec of an architecture.

        Args:
            codes: of its cells.
            name: of the spec.
            network: what it is compiled in; by default the space's own. If it is deeper and cells are free, each cell
                is repeated at neighbouring depths.
            provenance: of the spec.

        Raises: DocumentError if the codes are not of this space, if no input reaches a node, and if nothing reads a
        cell.
        """
        if len(codes) != self.cells:
            raise DocumentError([f"expected the codes of {counted(self.cells, 'cell')}, got {len(codes)}"], source=name)
        network = self.network if network is None else network
        times, left = divmod(network.depth, self.cells)
        if left:
            problem = f"expected a depth that is a multiple of {self.cells}, got {network.depth}"
            raise DocumentError([problem], source=name)
        names = ["cell"] if self.kind == "cell_based" else [f"cell_{depth}" for depth in range(self.cells)]
        cells = {
            cell: {"alpha": [[int(bit) for bit in word] for word in code.split(" ")], "concat": self._concat}
            for cell, code in zip(names, codes, strict=True)
        }
        problems = [
            f"cells.{cell}.alpha: {text}" for cell, code in zip(names, codes, strict=True) for text in _unreached(code)
        ]
        if problems:
            raise DocumentError(problems, source=name)
        return Genotype.parse(
            {
                "schema_version": SCHEMA_VERSION,
                "name": name,
                "operations": self.operations,
                "cells": cells,
                "layout": [cell for cell in names for _ in range(times)],
                "network": network,
                "provenance": provenance or Provenance(),
            },
            source=name,
        )

    @property
    def _concat(self) -> tuple[int, ...]:
        return tuple(range(2, 2 + self.nodes))

    def supernet(self, *, name: str = "supernet") -> Genotype:
        """Return the architecture that contains all others: every element of α is 1 (paper, algorithm 1, line 2)."""
        return self.genotype([self.code([1] * self.bits)] * self.cells, name=name)

    def smallest(self, *, name: str = "smallest") -> Genotype:
        """Return a chain: each node has only the node before it, through the operation of the fewest parameters."""
        chains = []
        for operation in self.operations:
            bits = [
                edge[1] == edge[0] + 1 and each == operation for edge in edges(self.nodes) for each in self.operations
            ]
            chains.append(self.genotype([self.code(bits)] * self.cells, name=name))
        return min(chains, key=parameters)

    def code(self, bits: Iterable[int]) -> str:
        """Return the code of a cell from its bits, in the order of `columns`."""
        text, word = "".join(str(int(bit)) for bit in bits), len(self.operations)
        return " ".join(text[start : start + word] for start in range(0, len(text), word))

    def codes(self, spec: Genotype) -> tuple[str, ...]:
        """Return the codes of a spec over this space's operations, cell by cell; the inverse of `genotype`."""
        names = spec.layout[:: spec.network.depth // self.cells]
        return tuple(self._cell_code(spec.cells[name], spec.operations) for name in names)

    def _cell_code(self, cell: Cell, operations: Sequence[str]) -> str:
        rows = zip(cell.edges, cell.alpha, strict=True)
        on = {(edge, name) for edge, row in rows for name, bit in zip(operations, row, strict=True) if bit}
        return self.code((edge, name) in on for edge in cell.edges for name in self.operations)


def _unreached(code: str) -> Iterator[str]:
    """Yield which nodes of a cell no edge leads to: they would be zero, and a search has better uses for a node."""
    words = code.split(" ")
    first, node = 0, 2
    while first + node <= len(words):
        if not any("1" in word for word in words[first : first + node]):
            yield f"no input reaches node {node}, expected a 1 in rows {first} to {first + node - 1}"
        first, node = first + node, node + 1


def bits(codes: Sequence[str]) -> tuple[int, ...]:
    """Return all bits of an architecture, cell after cell, in the order of `SearchSpace.columns`."""
    return tuple(int(bit) for code in codes for bit in code if bit != " ")


def direct_share(spec: Genotype) -> float:
    """Return the share of direct edges that carry a convolution, the mean over the layout.

    An edge is direct if it joins neighbouring nodes. The paper asks for "a portion of direct convolutions larger than
    0.5" (appendix F). Its own RobNet-large has 13 convolutions, of which 3 are direct: what exceeds 0.5 there is this
    share, 3 of the 4 direct edges.
    """
    shares = []
    for name in spec.layout:
        cell = spec.cells[name]
        convs = {edge for edge, operation in cell.active(spec.operations) if OPERATIONS[operation].is_conv}
        direct = [edge for edge in cell.edges if edge[1] == edge[0] + 1]
        shares.append(sum(edge in convs for edge in direct) / len(direct))
    return sum(shares) / len(shares)
