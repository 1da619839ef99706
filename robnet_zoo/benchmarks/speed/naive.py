"""The original's formulation of a network, as a yardstick: every edge is executed, also those that carry nothing.

An empty edge multiplies its input by zero, an edge with both operations runs them apart, batch norms are layers of
their own, and the nodes are concatenated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.network import CellModule, Network


class NaiveCell(nn.Module):
    """`network.CellModule` with its weights, executed edge by edge as the original does."""

    def __init__(self, cell: CellModule, nodes: int, *, reduction: bool) -> None:
        super().__init__()
        self.cell, self.nodes, self.stride = cell, nodes, 2 if reduction else 1

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        preprocess = self.cell.preprocess
        states = [preprocess["0"](before), preprocess["1"](last)]
        for target in range(2, 2 + self.nodes):
            outputs = []
            for source in range(target):
                key = f"{source}->{target}"
                if key in self.cell.edges:
                    outputs.append(self.cell.edges[key](states[source]))
                else:
                    stride = self.stride if source < 2 else 1
                    outputs.append(states[source][:, :, ::stride, ::stride].mul(0.0))
            states.append(sum(outputs[1:], outputs[0]))
        return torch.cat(states[2:], dim=1)


def naive(network: Network, spec: Genotype) -> Network:
    """Turn a compiled network into its naive form, in place: same weights, same function.

    For specs whose cells read both inputs and concatenate all nodes, as all that the original can express do.
    """
    for depth, name in enumerate(spec.layout):
        cell = network.cells[depth]
        assert isinstance(cell, CellModule)
        reduction = depth in spec.network.reductions
        network.cells[depth] = NaiveCell(cell, spec.cells[name].nodes, reduction=reduction)
    return network
