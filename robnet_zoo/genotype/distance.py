"""The edit distance of two cells: how many switches turn one into the other. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.genotype import Cell

MAX_LIVE_NODES = 8  # of a cell that is compared: the numberings to try grow with their factorial
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CellGraph:
    """What a cell computes: its live nodes, the operations of each live edge by (source, target), and its output."""

    nodes: tuple[int, ...]  # intermediate ones, ascending
    edges: Mapping[tuple[int, int], frozenset[str]]
    concat: frozenset[int]

    @classmethod
    def of_cell(cls, cell: Cell, operations: tuple[str, ...]) -> CellGraph:
        """Return the graph of a cell. operations: what the columns of its α stand for."""
        cell = cell.without_dead_edges(operations)
        carried: dict[tuple[int, int], frozenset[str]] = {}
        for edge, name in cell.active(operations):
            carried[edge] = carried.get(edge, NONE) | {name}
        return cls(tuple(sorted(cell.live_nodes - {0, 1})), carried, frozenset(cell.concat))

    @property
    def size(self) -> int:
        """Return how many switches are on: operations on live edges, and nodes in the output."""
        return sum(map(len, self.edges.values())) + len(self.concat)

    def gain(self, node: int) -> int:
        """Return how many of the switches that are on belong to a node: on its incoming edges, and its output's."""
        incoming = sum(len(names) for edge, names in self.edges.items() if edge[1] == node)
        return incoming + (node in self.concat)


def edit_distance(one_cell: CellGraph, another: CellGraph) -> int:
    """Return the least number of switches between two cells, whatever the numbers of their intermediate nodes.

    A switch turns an operation on an edge on or off, or takes a node into the output or out of it. What does not
    change the output does not count. It is the distance of the two labelled graphs with fixed inputs, exactly, by
    branch and bound.

    Raises: ArgumentError if a cell has more than MAX_LIVE_NODES live nodes.
    """
    few, many = sorted((one_cell, another), key=lambda graph: len(graph.nodes))
    if len(many.nodes) > MAX_LIVE_NODES:
        raise ArgumentError(f"expected a cell of at most {MAX_LIVE_NODES} live nodes, got {len(many.nodes)}")
    gains = [few.gain(node) for node in few.nodes]
    remaining = [sum(gains[index:]) for index in range(len(gains) + 1)]
    best = 0

    def extend(mapping: dict[int, int], free: tuple[int, ...], shared: int) -> None:
        """Map the next node of `few` to each free node of `many`; `shared` switches are common so far."""
        nonlocal best
        index = len(mapping) - 2
        if index == len(few.nodes):
            best = max(best, shared)
            return
        if shared + remaining[index] <= best:
            return
        node = few.nodes[index]
        for image in free:
            common = int(node in few.concat and image in many.concat)
            for (source, target), names in few.edges.items():
                if target == node:
                    common += len(names & many.edges.get((mapping[source], image), NONE))
            others = tuple(other for other in free if other != image)
            extend(mapping | {node: image}, others, shared + common)

    extend({0: 0, 1: 1}, many.nodes, 0)
    return few.size + many.size - 2 * best
