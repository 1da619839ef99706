"""Hypothesis strategies: small valid specs over all operations, and their neighbours with and without the same
function; and weights with which every part of a network matters to its logits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import STEM_STRIDES, Genotype, edges
from robnet_zoo.genotype.layers import DENOISE_FORMS
from robnet_zoo.genotype.operations import OPERATIONS

NAMES = ("cell_0", "cell_1", "normal", "reduce")  # the first two are the names that `merge_equal_cells` gives


@st.composite
def cells(draw: st.DrawFn, operations: int, *, max_nodes: int = 3) -> dict[str, Any]:
    """Draw a cell as JSON, with dead edges and nodes, and nodes that no input reaches."""
    nodes = draw(st.integers(1, max_nodes))
    kinds = ([0] * operations, *([int(k == on) for k in range(operations)] for on in range(operations)))
    row = st.sampled_from(kinds) | st.lists(st.integers(0, 1), min_size=operations, max_size=operations)
    alpha = {edge: list(draw(row)) for edge in edges(nodes)}
    concat = sorted(draw(st.sets(st.integers(2, nodes + 1), min_size=1)))
    return {"alpha": list(alpha.values()), "concat": concat}


@st.composite
def specs(draw: st.DrawFn, *, channels: tuple[int, ...] = (2, 4)) -> Genotype:
    """Draw a valid spec of one to three cells."""
    operations = draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3, unique=True))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    depth = draw(st.integers(1, 3))
    stem = draw(st.sampled_from(["cifar", "cifar", "cifar", "imagenet"]))
    at_most = 1 if stem == "imagenet" else depth
    reductions = sorted(draw(st.sets(st.integers(0, depth - 1), max_size=at_most)))
    stride = STEM_STRIDES[stem] * 2 ** len(reductions)
    sides = st.integers(1, max(1, 8 // stride)).map(lambda times: times * stride)
    data: dict[str, Any] = {
        "schema_version": 1,
        "name": draw(st.sampled_from(["one", "two"])),
        "operations": operations,
        "cells": {name: draw(cells(len(operations))) for name in names},
        "layout": draw(st.lists(st.sampled_from(names), min_size=depth, max_size=depth)),
        "network": {
            "stem": stem,
            "channels": draw(st.sampled_from(channels)),
            "depth": depth,
            "reductions": reductions,
            "num_classes": draw(st.integers(1, 3)),
            "input_size": [draw(st.integers(1, 3)), draw(sides), draw(sides)],
            "affine": draw(st.booleans()),
        },
    }
    if draw(st.integers(0, 3)) == 0:
        after = sorted(draw(st.sets(st.integers(0, depth - 1), min_size=1)))
        data["network"]["denoise"] = {"after": after, "form": draw(st.sampled_from(DENOISE_FORMS))}
    try:
        return Genotype.parse(data)
    except DocumentError as error:
        if not all("to read this output" in text or "got zeros alone" in text for text in error.problems):
            raise
    for cell in data["cells"].values():  # let each cell read the one before
        cell["alpha"][edges(cell["concat"][0] - 1).index((1, cell["concat"][0]))][0] = 1
    return Genotype.parse(data)


@st.composite
def disguised(draw: st.DrawFn, spec: Genotype) -> Genotype:
    """Draw a spec of the same function with other names, other orders, and changes to what the output ignores."""
    data = spec.model_dump(mode="json")
    every = [{"alpha": cell["alpha"], "concat": cell["concat"]} for cell in data["cells"].values()]
    for cell in every:
        if draw(st.booleans()):
            _insert_dead_node(draw, cell, len(data["operations"]))
    unused = [name for name in sorted(OPERATIONS) if name not in data["operations"]]
    order = draw(st.permutations(range(len(data["operations"]) + (1 if unused else 0))))
    known = [*data["operations"], *unused[:1]]
    data["operations"] = [known[k] for k in order]
    for cell in every:
        cell["alpha"] = [[([*row, 0])[k] for k in order] for row in cell["alpha"]]
    by_name = dict(zip(data["cells"], every, strict=True))
    if draw(st.booleans()):  # a separate cell at each depth
        copies = draw(st.permutations(range(len(data["layout"]))))
        data["cells"] = {f"cell_{at}": copy.deepcopy(by_name[data["layout"][at]]) for at in copies}
        data["layout"] = [f"cell_{at}" for at in range(len(data["layout"]))]
        data["cells"]["unused"] = draw(cells(len(order)))
    else:
        data["cells"] = {name: by_name[name] for name in draw(st.permutations(list(by_name)))}
    return Genotype.parse(data | {"name": "other", "provenance": {"seed": draw(st.integers(0, 9))}})


def _insert_dead_node(draw: st.DrawFn, cell: dict[str, Any], operations: int) -> None:
    """Insert a node at any position that reads any nodes, and that nothing reads."""
    nodes = next(n for n in range(1, 100) if len(edges(n)) == len(cell["alpha"]))
    at = draw(st.integers(2, nodes + 2))
    old = dict(zip(edges(nodes), cell["alpha"], strict=True))
    alpha = []
    for source, target in edges(nodes + 1):
        if target == at:
            alpha.append([draw(st.integers(0, 1)) for _ in range(operations)])
        elif source == at:
            alpha.append([0] * operations)
        else:
            key = next(e for e in old if e == (source - (source > at), target - (target > at)))
            alpha.append(old[key])
    cell["alpha"] = alpha
    cell["concat"] = [node + (node >= at) for node in cell["concat"]]


@st.composite
def changed(draw: st.DrawFn, spec: Genotype) -> Genotype:
    """Draw a spec that computes something else: one live bit of α or another part of the function is changed."""
    data = spec.model_dump(mode="json")
    network, name = data["network"], draw(st.sampled_from(spec.layout))
    cell = spec.cells[name]
    match draw(
        st.sampled_from(["bit", "bit", "bit", "concat", "channels", "classes", "images", "affine", "stem", "denoise"])
    ):
        case "bit":
            zeros = cell.zeros(spec.operations)
            live = [index for index, edge in enumerate(cell.edges) if edge[1] in cell.live_nodes]
            index, k = draw(st.sampled_from(live)), draw(st.integers(0, len(spec.operations) - 1))
            assume(cell.edges[index][0] not in zeros or not OPERATIONS[spec.operations[k]].keeps_zero)
            data["cells"][name]["alpha"][index][k] ^= 1
        case "concat":
            node = draw(st.integers(2, cell.nodes + 1))
            data["cells"][name]["concat"] = sorted({*cell.concat} ^ {node})
        case "channels":
            network["channels"] += 2
        case "classes":
            network["num_classes"] += 1
        case "images":
            network["input_size"][0] += 1
        case "affine":
            network["affine"] = not network["affine"]
        case "denoise":
            form = draw(st.sampled_from([*DENOISE_FORMS, None]))
            chosen = None if form is None else {"after": [draw(st.integers(0, len(spec.layout) - 1))], "form": form}
            assume(chosen != network.get("denoise"))
            network["denoise"] = chosen
        case "stem":
            network["stem"] = {"cifar": "imagenet", "imagenet": "cifar"}[network["stem"]]
            network["input_size"][1:] = [64, 64]
    try:
        return Genotype.parse(data)
    except DocumentError:
        assume(False)
        raise


def fill(model: nn.Module, seed: int) -> None:
    """Fill in weights and norm statistics that keep activations at order 1, so that every part matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.5, generator=generator)


def images(spec: Genotype, *, seed: int = 0, count: int = 2) -> Tensor:
    """Return images, (count, C, H, W) in [0, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *spec.network.input_size, generator=generator, dtype=torch.float64)
