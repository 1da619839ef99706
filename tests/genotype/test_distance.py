"""The edit distance of cells, beside networkx's exact graph edit distance."""

from __future__ import annotations

import random

import networkx
import pytest

from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype.distance import MAX_LIVE_NODES, CellGraph, edit_distance
from robnet_zoo.genotype.genotype import Cell, edges

OPERATIONS = ("identity", "sep_conv_3x3")


def random_cell(draw: random.Random, nodes: int) -> Cell:
    """Return a cell in which every node is fed."""
    alpha = [[int(draw.random() < 0.4) for _ in OPERATIONS] for _ in edges(nodes)]
    for index, edge in enumerate(edges(nodes)):
        if edge[0] == edge[1] - 1 or edge[1] == 2:
            alpha[index][0] = 1
    concat = sorted(draw.sample(range(2, 2 + nodes), draw.randint(1, nodes)))
    return Cell(alpha=alpha, concat=concat)


def graph_of(cell: Cell) -> CellGraph:
    return CellGraph.of_cell(cell, OPERATIONS)


def peer(graph: CellGraph) -> networkx.DiGraph:
    other = networkx.DiGraph()
    for node in (0, 1, *graph.nodes):
        other.add_node(node, input=node if node < 2 else None, output=node in graph.concat)
    for edge, names in graph.edges.items():
        other.add_edge(*edge, names=names)
    return other


def distance_of_networkx(first: CellGraph, second: CellGraph) -> float:
    def substitution(a, b):
        return 1000 if a["input"] != b["input"] else int(a["output"] != b["output"])

    def lone(a):
        return 1000 if a["input"] is not None else int(a["output"])

    return networkx.graph_edit_distance(
        peer(first),
        peer(second),
        node_subst_cost=substitution,
        node_del_cost=lone,
        node_ins_cost=lone,
        edge_subst_cost=lambda a, b: len(a["names"] ^ b["names"]),
        edge_del_cost=lambda a: len(a["names"]),
        edge_ins_cost=lambda a: len(a["names"]),
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_distance_is_that_of_networkx(seed):
    draw = random.Random(seed)
    first, second = (graph_of(random_cell(draw, draw.randint(1, 3))) for _ in range(2))
    assert edit_distance(first, second) == edit_distance(second, first) == distance_of_networkx(first, second)


def test_a_cell_is_at_distance_zero_of_itself_with_other_numbers():
    cell = Cell(alpha=[[1, 0], [0, 0], [0, 0], [0, 1], [0, 0]], concat=[2, 3])  # 2 reads 0, 3 reads 1
    other = Cell(alpha=[[0, 0], [0, 1], [1, 0], [0, 0], [0, 0]], concat=[2, 3])  # the other way around
    assert edit_distance(graph_of(cell), graph_of(other)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_switch_is_a_distance_of_one(seed):
    draw = random.Random(seed)
    cell = random_cell(draw, 4)
    row = draw.choice([index for index, edge in enumerate(cell.edges) if edge[0] != edge[1] - 1 and edge[1] != 2])
    alpha = [list(each) for each in cell.alpha]
    alpha[row][1] ^= 1
    switched = Cell(alpha=alpha, concat=[2, 3, 4, 5])
    assert edit_distance(graph_of(Cell(alpha=cell.alpha, concat=[2, 3, 4, 5])), graph_of(switched)) == 1


def test_what_does_not_reach_the_output_does_not_count():
    live = Cell(alpha=[[1, 0], [0, 1]], concat=[2])
    with_dead_node = Cell(alpha=[[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]], concat=[2])
    assert edit_distance(graph_of(live), graph_of(with_dead_node)) == 0


def test_cells_of_too_many_live_nodes_are_refused():
    nodes = MAX_LIVE_NODES + 1
    large = graph_of(random_cell(random.Random(0), nodes))
    full = CellGraph(tuple(range(2, 2 + nodes)), large.edges, frozenset(range(2, 2 + nodes)))
    with pytest.raises(ArgumentError, match="at most 8 live nodes, got 9"):
        edit_distance(full, full)
