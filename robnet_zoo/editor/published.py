"""Architectures to begin with and to compare with: the bundled specs, and the genotypes of the literature."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from robnet_zoo.converters import darts
from robnet_zoo.converters.literature import GENOTYPES, MSROBNETS
from robnet_zoo.converters.msrobnet import convert_msrobnet
from robnet_zoo.errors import EditorError
from robnet_zoo.genotype.distance import MAX_LIVE_NODES, CellGraph, edit_distance
from robnet_zoo.genotype.genotype import Cell, Genotype
from robnet_zoo.genotype.specs import SPECS

NEAREST = 5


@dataclass(frozen=True)
class Neighbour:
    """A published cell, the architectures that have it, and how many switches away it is."""

    distance: int
    architectures: tuple[str, ...]
    cell: str


@cache
def published() -> Mapping[str, Genotype]:
    """Return the published architectures by name."""
    bundled = {name: SPECS.own(name) for name in SPECS.names()}
    genotypes = {name: darts.published(name) for name in GENOTYPES}
    return bundled | genotypes | {name: convert_msrobnet(name) for name in MSROBNETS}


@cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """Return the names of the published architectures, by what they are."""
    return {"bundled architectures": tuple(SPECS.names()), "published genotypes": (*GENOTYPES, *MSROBNETS)}


def load_published(name: str) -> Genotype:
    """Return a published architecture. Raises EditorError for an unknown name."""
    if name not in published():
        raise EditorError(f"expected the name of a published architecture, got {name!r}")
    return published()[name]


@cache
def _cells() -> tuple[tuple[CellGraph, tuple[tuple[str, str], ...]], ...]:
    """Return every published cell once, with each (architecture, cell) that has it."""
    owners: dict[tuple[object, ...], list[tuple[str, str]]] = defaultdict(list)
    graphs: dict[tuple[object, ...], CellGraph] = {}
    for name, spec in published().items():
        for cell_name, cell in spec.cells.items():
            graph = CellGraph.of_cell(cell, spec.operations)
            key = (graph.nodes, tuple(sorted((edge, *sorted(ops)) for edge, ops in graph.edges.items())), graph.concat)
            graphs[key] = graph
            owners[key].append((name, cell_name))
    return tuple((graphs[key], tuple(owners[key])) for key in owners)


@cache
def _distances(cell: Cell, operations: tuple[str, ...]) -> tuple[int, ...]:
    graph = CellGraph.of_cell(cell, operations)
    return tuple(edit_distance(graph, other) for other, _ in _cells())


def nearest_cells(cell: Cell, operations: tuple[str, ...]) -> list[Neighbour]:
    """Return the published cells that are the fewest switches away, nearest first; none for a cell of many nodes.

    Args:
        cell: the cell that is compared.
        operations: what the columns of its α stand for.
    """
    if len(cell.live_nodes - {0, 1}) > MAX_LIVE_NODES:
        return []
    neighbours = [
        Neighbour(distance, tuple(dict.fromkeys(name for name, _ in owners)), owners[0][1])
        for distance, (_, owners) in zip(_distances(cell, operations), _cells(), strict=True)
    ]
    return sorted(neighbours, key=lambda neighbour: (neighbour.distance, neighbour.architectures))[:NEAREST]
