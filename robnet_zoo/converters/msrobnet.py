"""Convert genotypes of MSRobNet (Ning et al., arXiv:2012.11835), as the authors' code, aw_nas, prints them, to specs.

A genotype is a text: `DenseRobGenotype(normal_0='init_node~2+|none~0|ResSepConv~1|+...', reduce_1='...', ...)`. Each
cell has a number, and `reduce` marks those that halve the size. Behind `init_node~2`, for the two inputs, stands a
group a node: the operation of each edge and its source. A cell layout says which cell is at each depth. The network
around the cells is RobNet's. `ResSepConv` is an identity and a separable convolution, summed.

Texts are read as data and never executed.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robnet_zoo.converters.literature import MSROBNET, MSROBNETS
from robnet_zoo.converters.original.codes import ORIGINAL_OPERATIONS, Stem
from robnet_zoo.converters.python_text import assigned, literal, read_file, statements
from robnet_zoo.core.documents import nearest, parse_json, shown
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import MAX_NODES, Genotype, Provenance, edges

CALLED = "DenseRobGenotype"
CELL = re.compile(r"(normal|reduce)_(\d{1,4})", re.ASCII)
ENTRY = re.compile(r"(\w{1,100})~(\d{1,4})", re.ASCII)
# Our operations, summed, by aw_nas' name.
NAMES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "skip_connect": ("identity",),
    "sep_conv_3x3": ("sep_conv_3x3",),
    "ResSepConv": ORIGINAL_OPERATIONS,
}
Edges = dict[tuple[int, int], tuple[str, ...]]  # what an edge, (source, target), carries


@dataclass(frozen=True)
class MsrobnetText:
    """A genotype as it was read: its text or call, and the layout and channels that stand beside it, where they do."""

    text: str | ast.Call
    layout: Sequence[Any] | None = None
    channels: Any = None


def convert_msrobnet(
    genotype: str,
    *,
    pick: str | None = None,
    layout: str | None = None,
    name: str | None = None,
    channels: int | None = None,
    num_classes: int = 10,
    stem: Stem = "cifar",
) -> Genotype:
    """Convert a genotype of aw_nas' robust search space to a spec in RobNet's network. The text is never run.

    Args:
        genotype: msrobnet_1000, msrobnet_1560, msrobnet_2000; a file; or the text itself, such as
            "DenseRobGenotype(normal_0='init_node~2+|sep_conv_3x3~0|none~1|', ...)". A .json file has an object with
            a genotype and a cell_layout, or several by name.
        pick: Which of several genotypes in the file, by name.
        layout: The number of the cell at each depth, such as "0 0 1 2 2 1 3 3"; by default the published or the
            file's one, else every cell once.
        name: The spec's name; by default the genotype's, else the file's stem.
        channels: Channels of a node in the first cell; by default the published number, else 36.
        num_classes: Logits.
        stem: cifar for 32x32 images, imagenet for 224x224.

    Raises:
        DocumentError: names the part of the text that is wrong or that a spec cannot express.
    """
    if not isinstance(genotype, str):
        raise DocumentError([f"expected a genotype: its name, file or text, got {shown(genotype)}"])
    if genotype in MSROBNETS:
        if pick is not None:
            raise DocumentError([f"pick: expected none for {genotype}, which is one genotype, got {shown(pick)}"])
        entry = MSROBNETS[genotype]
        written = MsrobnetText(text=entry.text, layout=entry.layout, channels=entry.channels)
        called, provenance = genotype, MSROBNET
    else:
        called, written = _pick(*_read(genotype), pick)
        provenance = Provenance(source="a genotype in aw_nas' form")
    name = name or called
    try:
        cells = _cells(written.text)
        depths = _layout(layout, written.layout, cells)
    except DocumentError as error:
        raise DocumentError(error.problems, source=error.source or name) from None
    width = written.channels if channels is None else channels
    return Genotype.parse(
        {
            "schema_version": 1,
            "name": name,
            "operations": ORIGINAL_OPERATIONS,
            "cells": {cell: _cell(carried) for cell, carried in cells.items() if cell in depths},
            "layout": depths,
            "network": {
                "stem": stem,
                "channels": 36 if width is None else width,
                "depth": len(depths),
                "reductions": [at for at, cell in enumerate(depths) if cell.startswith("reduce")],
                "num_classes": num_classes,
                "input_size": (3, 32, 32) if stem == "cifar" else (3, 224, 224),
                "affine": False,
            },
            "provenance": provenance,
        },
        source=name,
    )


def _cells(text: str | ast.Call) -> dict[str, Edges]:
    """Return what the edges of every cell of a genotype carry, by the cell's name in the text."""
    value = _only(genotypes_of(text)) if isinstance(text, str) else text
    if value.args or not value.keywords:
        raise DocumentError([f"expected {CALLED}(normal_0='...', ...), got other arguments"])
    cells: dict[str, Edges] = {}
    problems: list[str] = []
    numbers: set[int] = set()
    for keyword in value.keywords:
        cell = keyword.arg or "**"
        match = CELL.fullmatch(cell)
        if match is None or int(match[2]) in numbers:
            problems.append(f"expected cells such as normal_0 or reduce_1, each number once, got {shown(cell)}")
            continue
        numbers.add(int(match[2]))
        nodes = literal(keyword.value)
        if not isinstance(nodes, str):
            problems.append(f"{cell}: expected a text, got {shown(nodes)}")
            continue
        carried: Edges = {}
        problems += [f"{cell}: {problem}" for problem in _read_nodes(nodes, carried)]
        cells[cell] = carried
    if problems:
        raise DocumentError(problems)
    return cells


def _read_nodes(text: str, carried: Edges) -> Iterator[str]:
    """Write what each edge of a cell carries into `carried`; yield what is wrong with the text."""
    inputs, *nodes = text.split("+")
    if inputs != "init_node~2":
        yield f"expected init_node~2 first, for two inputs, got {shown(inputs)}"
        return
    if not 1 <= len(nodes) <= MAX_NODES:
        yield f"expected 1 to {MAX_NODES} nodes, got {len(nodes)}"
        return
    for target, node in enumerate(nodes, start=2):
        words = node.split("|")
        if len(words) < 3 or words[0] or words[-1]:
            yield f"node {target}: expected operations between bars, such as |none~0|sep_conv_3x3~1|, got {shown(node)}"
            continue
        sources = []
        for word in words[1:-1]:
            match = ENTRY.fullmatch(word)
            if match is None or match[1] not in NAMES:
                near = nearest(word.split("~")[0], NAMES)
                yield f"node {target}: expected an operation and its source, such as none~0, got {shown(word)}{near}"
                continue
            sources.append(int(match[2]))
            carried[sources[-1], target] = NAMES[match[1]]
        if len(sources) == len(words) - 2 and sources != list(range(target)):
            yield f"node {target}: expected an operation from each of the nodes 0 to {target - 1}, got {shown(sources)}"


def _cell(carried: Edges) -> dict[str, Any]:
    """Return a cell of a spec, all of whose nodes are concatenated."""
    last = max(target for _, target in carried)
    alpha = [[int(name in carried[edge]) for name in ORIGINAL_OPERATIONS] for edge in edges(last - 1)]
    return {"alpha": alpha, "concat": range(2, last + 1)}


def _layout(layout: str | None, given: Sequence[int] | None, cells: Mapping[str, Edges]) -> list[str]:
    """Return the name of the cell at each depth. given: by number, if the option is not."""
    named = {int(cell.partition("_")[2]): cell for cell in cells}
    if layout is None:
        numbers: list[Any] = list(given) if given is not None else sorted(named)
    else:
        words = layout.replace(",", " ").split()
        numbers = [int(word) if re.fullmatch(r"[0-9]{1,4}", word) else word for word in words]
    wrong = [shown(number) for number in numbers if type(number) is not int or number not in named]
    if wrong or not numbers:
        known = ", ".join(map(str, sorted(named)))
        raise DocumentError([f"layout: expected numbers of cells, out of {known}, got {wrong[0] if wrong else 'none'}"])
    return [named[number] for number in numbers]


def genotypes_of(text: str, *, source: str = "") -> dict[str, ast.Call]:
    """Return every genotype in a Python text, by the name that it is assigned to, or "" without one.

    Calls of `DenseRobGenotype`, and texts in quotes that hold one, are genotypes. Nothing is executed.

    Raises:
        DocumentError: the text is not Python, or has no genotype. `source` names the text.
    """
    genotypes: dict[str, ast.Call] = {}
    for statement in statements(text, source):
        names, value = assigned(statement)
        match value:
            case ast.Constant(value=str(quoted)) if quoted.lstrip().startswith(f"{CALLED}("):
                call = _only(genotypes_of(quoted, source=source), source=source)
                genotypes |= dict.fromkeys(names, call)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called == CALLED:
                genotypes |= dict.fromkeys(names, value)
    if not genotypes:
        raise DocumentError([f"expected {CALLED}(normal_0='...', ...), got none"], source=source)
    return genotypes


def _only(genotypes: Mapping[str, ast.Call], *, source: str = "") -> ast.Call:
    """Return the genotype of a text that holds a single one. Raises DocumentError."""
    if len(genotypes) != 1:
        raise DocumentError([f"expected one genotype in a text, got {', '.join(genotypes)}"], source=source)
    (call,) = genotypes.values()
    return call


def _read(genotype: str) -> tuple[dict[str, MsrobnetText], str]:
    """Return every genotype in a file or a text by its name, and what to call a genotype that has no name."""
    if "(" in genotype and not os.path.isfile(genotype):
        text, source, stem, is_json = genotype, "genotype", "genotype", False
    else:
        text, path = read_file(genotype, known=MSROBNETS)
        source, stem, is_json = os.fsdecode(path), path.stem, path.suffix.lower() == ".json"
    if not is_json:
        return {name: MsrobnetText(call) for name, call in genotypes_of(text, source=source).items()}, stem
    document = parse_json(text, source=source)
    several = document if isinstance(document, Mapping) and "genotype" not in document else {"": document}
    written = {name: _beside(entry, f"{source}: {name}" if name else source) for name, entry in several.items()}
    if not written:
        raise DocumentError(["expected a genotype and a cell_layout, got none"], source=source)
    return written, stem


def _beside(entry: Any, source: str) -> MsrobnetText:
    """Return a genotype of a JSON file, with the layout and channels that stand beside it."""
    text = entry.get("genotype") if isinstance(entry, Mapping) else None
    if not isinstance(text, str):
        raise DocumentError([f"expected an object with a genotype, a text, got {shown(entry)}"], source=source)
    layout, channels = entry.get("cell_layout"), entry.get("init_channels")
    if not (layout is None or isinstance(layout, list)):
        raise DocumentError([f"cell_layout: expected a list of numbers, got {shown(layout)}"], source=source)
    return MsrobnetText(text, layout, channels)


def _pick(genotypes: dict[str, MsrobnetText], stem: str, pick: str | None) -> tuple[str, MsrobnetText]:
    """Return (name, genotype) of the one that is meant."""
    if pick is None and len(genotypes) == 1:
        (name, written), *_ = genotypes.items()
        return name or stem, written
    if pick is None or pick not in genotypes:
        given = "one of several genotypes, by name" if pick is None else f"another name than {shown(pick)}"
        raise DocumentError([f"expected {given}{nearest(pick or '', genotypes)}"], source=stem)
    return pick, genotypes[pick]
