"""The genotype: its document, operations and layers as data, passes, blueprint, counts, drawing. Imports no torch."""

from robnet_zoo.genotype.blueprint import Blueprint, multiply_adds, parameters
from robnet_zoo.genotype.draw import draw_cell, draw_network
from robnet_zoo.genotype.genotype import Cell, Edge, Genotype, NetworkConfig, Provenance
from robnet_zoo.genotype.operations import OPERATIONS, Operation
from robnet_zoo.genotype.passes import canonical

__all__ = [
    # the document
    "Genotype",
    "Cell",
    "Edge",
    "NetworkConfig",
    "Provenance",
    "canonical",
    # operations
    "OPERATIONS",
    "Operation",
    # what follows from it; the function `blueprint` is in `robnet_zoo.genotype.blueprint`
    "Blueprint",
    "parameters",
    "multiply_adds",
    "draw_cell",
    "draw_network",
]
