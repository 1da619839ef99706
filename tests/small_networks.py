"""Small networks that hold every kind of block that a spec can ask for."""

from collections.abc import Mapping

import torch
from torch import nn

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import DENOISE_FORMS, Block, Conv, FactorizedConv, Norm, Pool, Relu
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.layers import EmbeddedGaussian2d
from robnet_zoo.nn.network import Network


def genotype(cells: Mapping[str, Mapping[str, list[str]]], layout: str, **network: object) -> Genotype:
    """Return a spec. cells: of two nodes, as operations by edge, by one-letter name; a layout `aba` has three cells.

    Nodes that have an edge are concatenated, even if none of their edges carries anything.
    """
    edges, names = ["0->2", "1->2", "0->3", "1->3", "2->3"], list(OPERATIONS)
    config = {"stem": "cifar", "channels": 4, "depth": len(layout), "reductions": [1], "num_classes": 5}
    return Genotype.parse(
        {
            "schema_version": 1,
            "name": "small",
            "operations": names,
            "cells": {
                letter: {
                    "alpha": [[int(name in carried.get(edge, [])) for name in names] for edge in edges],
                    "concat": [node for node in (2, 3) if any(edge.endswith(str(node)) for edge in carried)],
                }
                for letter, carried in cells.items()
            },
            "layout": list(layout),
            "network": config | {"input_size": [3, 8, 8], "affine": True} | network,
        }
    )


EVERYTHING = {"0->2": list(OPERATIONS), "1->3": list(OPERATIONS), "2->3": list(OPERATIONS)}
SEPARABLE = {"0->2": ["sep_conv_3x3"], "1->2": ["identity", "sep_conv_3x3"], "2->3": ["sep_conv_3x3", "identity"]}
IDENTITIES = {"0->2": ["identity"], "1->2": ["identity"], "1->3": ["identity"], "2->3": ["identity"]}
FIRST_INPUT, SECOND_INPUT = {"0->2": ["sep_conv_3x3", "identity"]}, {"1->2": ["identity", "max_pool_3x3"]}
UNREACHED = {"0->2": [], "0->3": ["identity"], "1->3": ["sep_conv_3x3"], "2->3": ["dil_conv_3x3", "identity"]}
SPECS = {
    "every operation": genotype({"a": EVERYTHING}, "aaa"),
    "every operation, norms without scale": genotype({"a": EVERYTHING}, "aaa", affine=False),
    "identities alone": genotype({"a": IDENTITIES}, "aaa"),
    "cells that read one input": genotype({"a": SEPARABLE, "b": FIRST_INPUT, "c": SECOND_INPUT}, "abaca"),
    "a node that no input reaches": genotype({"a": SEPARABLE, "b": UNREACHED}, "abb"),
    "two reductions in a row, the first at once": genotype({"a": SEPARABLE}, "aaaa", reductions=[0, 1]),
    **{
        f"denoised, {form}": genotype({"a": SEPARABLE}, "aaa", denoise={"after": [0, 2], "form": form})
        for form in DENOISE_FORMS
    },
    "denoised, fewer pixels than channels": genotype(
        {"a": SEPARABLE}, "aa", reductions=[0, 1], denoise={"after": [0, 1], "form": "dot_product"}
    ),
    "imagenet stem": genotype({"a": SEPARABLE}, "aaa", stem="imagenet", input_size=[3, 32, 32]),
}


def network_of(spec: Genotype, *, seed: int = 0, **options: object) -> Network:
    """Return a compiled network in float64, its norms' statistics, scales and shifts random as if trained."""
    torch.manual_seed(seed)
    network = compile(spec, **options).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.2, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, -1.5, 1.5)  # a negative scale reverses the order of values
                nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, EmbeddedGaussian2d):  # weights that distinguish the pixels
            nn.init.normal_(module.theta.weight)
            nn.init.normal_(module.phi.weight)
    return network


# Blocks that no operation has yet.
UNUSUAL: dict[str, Block] = {
    "a norm that follows a pooling": (Pool("max", 3, 2), Norm(4, True)),
    "a norm that comes first": (Norm(4, True), Relu(), Conv(4, 4), Norm(4, False)),
    "two norms in a row": (Conv(4, 4), Norm(4, True), Norm(4, False)),
    "a rectified output": (Conv(4, 4), Norm(4, True), Relu()),
    "a rectified output at stride 2": (FactorizedConv(4, 4), Norm(4, True), Relu()),
    "grouped and strided": (Relu(), Conv(4, 4, (3, 3), (2, 2), groups=2), Conv(4, 4, (1, 1), (2, 2)), Norm(4, True)),
    "nothing but a rectifier": (Relu(),),
}
