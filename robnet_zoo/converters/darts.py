"""Convert genotypes of DARTS (Liu et al., ICLR 2019), and of all who search its space, to specs.

A genotype is two cells, `normal` and `reduce`. Each is a list of (operation, source): entries 2i and 2i + 1 are summed
into node 2 + i, and sources 0 and 1 are the cell's inputs. The operation `none` is zero, and carries nothing.
`normal_concat` and `reduce_concat` are the nodes that are concatenated to the output. The network around the cells is
the one that DARTS evaluates: a stem of 3C channels, reductions at depths L // 3 and 2L // 3, and norms that learn a
scale and a shift. Its auxiliary head and its drop-path are for training only and not part of a spec.

Texts are read as data and never executed.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from robnet_zoo.converters.literature import GENOTYPES
from robnet_zoo.converters.original.codes import Stem, check_depth
from robnet_zoo.converters.python_text import assigned, literal, read_file, statements
from robnet_zoo.core.documents import Document, Tuple, fspath, nearest, parse_json, shown
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import MAX_NODES, Genotype, Provenance, edges
from robnet_zoo.genotype.operations import OPERATIONS

NONE = "none"  # DARTS' operation whose output is zero: an edge that carries nothing
# Our name by DARTS' name. Like our identity, skip_connect is a factorized reduction at stride 2.
NAMES = {"skip_connect": "identity"} | {name: name for name in OPERATIONS if name != "identity"}

Entries = Annotated[
    Tuple[Annotated[tuple[str, int], Field(strict=False)]],
    Field(max_length=2 * MAX_NODES, description="(operation, source), two for each node"),
]
Concat = Annotated[Tuple[int], Field(max_length=MAX_NODES)]


class DartsGenotype(Document):
    """The four fields of DARTS' named tuple."""

    normal: Entries
    normal_concat: Concat
    reduce: Entries
    reduce_concat: Concat


def convert_darts(
    genotype: str,
    *,
    pick: str | None = None,
    name: str | None = None,
    channels: int = 36,
    depth: int = 20,
    num_classes: int = 10,
    stem: Stem = "cifar",
) -> Genotype | str:
    """Convert a DARTS-style genotype to the spec of the network that DARTS evaluates with it. The text is never run.

    Args:
        genotype: The name of a published one, such as advrush or wsrnet_plus; a .json or Python file; the text itself,
            such as "Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"; or
            list, for a table of the published ones.
        pick: Which of several genotypes in the file, by name.
        name: The spec's name; by default the genotype's, else the file's stem.
        channels: Channels of a node in the first cell.
        depth: Number of cells.
        num_classes: Logits.
        stem: cifar for 32x32 images, imagenet for 224x224.

    Returns:
        The spec, or the table.

    Raises:
        DocumentError: names the part of the text that is wrong or that a spec cannot express.
    """
    if not isinstance(genotype, str):
        raise DocumentError([f"expected a genotype: its name, file or text, got {shown(genotype)}"])
    if genotype == "list":
        return listing()
    if genotype in GENOTYPES:
        if pick is not None:
            raise DocumentError([f"pick: expected none for {genotype}, which is one genotype, got {shown(pick)}"])
        entry = GENOTYPES[genotype]
        fields, called, provenance = entry.genotype, genotype, entry.provenance
    else:
        fields, called = _pick(*_read(genotype), pick)
        provenance = None
    return from_darts(
        fields,
        name=name or called,
        channels=channels,
        depth=depth,
        num_classes=num_classes,
        stem=stem,
        provenance=provenance,
    )


def published(name: str) -> Genotype:
    """Return the spec of a published genotype in DARTS' network for CIFAR-10: 36 channels, 20 cells."""
    entry = GENOTYPES[name]
    sizes: dict[str, Any] = {"channels": 36, "depth": 20, "num_classes": 10, "stem": "cifar"}
    return from_darts(entry.genotype, name=name, **sizes, provenance=entry.provenance)


def equals() -> dict[str, list[str]]:
    """Return, by name, the other published genotypes that compute the same function."""
    hashes = {name: published(name).hash for name in GENOTYPES}
    return {name: [other for other in hashes if other != name and hashes[other] == hashes[name]] for name in hashes}


def listing() -> str:
    """Return a table of the published genotypes: year, parameters of `published`, equal functions, paper, source."""
    lines = [f"{'name':<18} year  parameters  published in; read from"]
    for name, others in equals().items():
        entry = GENOTYPES[name]
        same = f"the same function as {', '.join(others)}; " if others else ""
        lines.append(
            f"{name:<18} {entry.year}  {parameters(published(name)):>10,}  {same}{entry.paper}; {entry.source}"
        )
    return "\n".join([*lines, ""])


def from_darts(
    genotype: DartsGenotype | Mapping[str, Any],
    *,
    name: str,
    channels: int,
    depth: int,
    num_classes: int,
    stem: Stem,
    provenance: Provenance | None = None,
) -> Genotype:
    """Return the spec of the network that DARTS evaluates with a genotype.

    Args:
        genotype: the four fields of DARTS' named tuple.
        name: the spec's name.
        channels: C, of a node in the first cell.
        depth: L, the number of cells.
        num_classes: the number of logits.
        stem: `cifar` for images of 3x32x32, `imagenet` for 3x224x224.
        provenance: where the genotype is from.

    Raises:
        DocumentError: names every position that is wrong or that a spec cannot express.
    """
    genotype = DartsGenotype.parse(genotype, source=name)
    check_depth(depth, source=name)
    cells = {
        "normal": (genotype.normal, genotype.normal_concat),
        "reduce": (genotype.reduce, genotype.reduce_concat),
    }
    problems = [text for kind, (entries, concat) in cells.items() for text in _problems(kind, entries, concat)]
    if problems:
        raise DocumentError(problems, source=name)
    built = {kind: _carried(entries, concat) for kind, (entries, concat) in cells.items()}
    used = {operation for carried, *_ in built.values() for *_, operation in carried}
    operations = [operation for operation in OPERATIONS if operation in used]
    reductions = sorted({depth // 3, 2 * depth // 3})
    data = {
        "schema_version": 1,
        "name": name,
        "operations": operations,
        "cells": {
            kind: {
                "alpha": [[int((*edge, operation) in carried) for operation in operations] for edge in edges(nodes)],
                "concat": concat,
            }
            for kind, (carried, nodes, concat) in built.items()
        },
        "layout": ["reduce" if at in reductions else "normal" for at in range(depth)],
        "network": {
            "stem": stem,
            "channels": channels,
            "depth": depth,
            "reductions": reductions,
            "num_classes": num_classes,
            "input_size": (3, 32, 32) if stem == "cifar" else (3, 224, 224),
            "affine": True,
        },
        "provenance": provenance or Provenance(source="a genotype in DARTS' form"),
    }
    return Genotype.parse(data, source=name)


def genotypes_of(text: str, *, source: str = "") -> dict[str, Any]:
    """Return the fields of every genotype in a Python text, by the name that it is assigned to, or "" without one.

    Calls of `Genotype` and mappings with a key `normal` are genotypes. All other statements are skipped, and nothing
    is executed.

    Raises:
        DocumentError: the text is not Python, or a genotype would have to be executed. `source` names the text.
    """
    genotypes: dict[str, Any] = {}
    for statement in statements(text, source):
        names, value = assigned(statement)
        if isinstance(value, ast.Name) and value.id in genotypes:  # a second name for the same genotype
            genotypes |= dict.fromkeys(names, genotypes[value.id])
        elif (fields := _fields(value)) is not None:
            try:
                genotype = {key: literal(field) for key, field in fields.items()}
            except DocumentError as error:
                raise DocumentError(error.problems, source=source) from None
            genotypes |= dict.fromkeys(names, genotype)
    return genotypes


def _problems(kind: str, entries: tuple[tuple[str, int], ...], concat: tuple[int, ...]) -> Iterator[str]:
    """Yield what a spec cannot express; the spec's own validation finds the rest."""
    if len(entries) % 2 or not entries:
        yield f"{kind}: expected two entries a node, got {len(entries)}"
        return
    for index, (operation, source) in enumerate(entries):
        node = 2 + index // 2
        if operation not in NAMES and operation != NONE:
            yield f"{kind}[{index}][0]: unknown operation {shown(operation)}{nearest(operation, [*NAMES, NONE])}"
        if not 0 <= source < node:
            yield f"{kind}[{index}][1]: expected a node before {node}, got {source}"
    last = 1 + len(entries) // 2
    if not concat or any(a >= b for a, b in pairwise(concat)) or not 2 <= concat[0] <= concat[-1] <= last:
        yield f"{kind}_concat: expected nodes from 2 to {last} in ascending order, got {shown(concat)}"


def _carried(
    entries: tuple[tuple[str, int], ...], concat: tuple[int, ...]
) -> tuple[set[tuple[int, int, str]], int, list[int]]:
    """Return (source, target, operation) of all that a cell's edges carry, its number of nodes, and its concat.

    An edge of a spec carries an operation once. Where a genotype has it twice, the second is carried by a node of its
    own in front of the target, which is not concatenated and whose identity adds it to the target.
    """
    carried: set[tuple[int, int, str]] = set()
    number = {0: 0, 1: 1}  # of the genotype's nodes, ours
    last = 1
    for node in range(2, 2 + len(entries) // 2):
        pair = [(number[source], NAMES[name]) for name, source in entries[2 * node - 4 : 2 * node - 2] if name != NONE]
        if len(pair) > len(set(pair)):
            last += 1
            carried.add((pair[1][0], last, pair[1][1]))
            pair[1] = (last, "identity")
        last += 1
        number[node] = last
        carried |= {(source, last, name) for source, name in pair}
    return carried, last - 1, [number[node] for node in concat]


def _read(genotype: str) -> tuple[dict[str, Any], str]:
    """Return every genotype in a file or a text by its name, and what to call a genotype that has no name."""
    genotype = fspath(genotype, "a genotype as text, its name, or the path of a file")
    if any(mark in genotype for mark in "({") and not os.path.isfile(genotype):
        text, source, stem, is_json = genotype, "genotype", "genotype", genotype.lstrip().startswith('{"')
    else:
        text, path = read_file(genotype, known=GENOTYPES)
        source, stem, is_json = os.fsdecode(path), path.stem, path.suffix.lower() == ".json"
    if not is_json:
        genotypes = genotypes_of(text, source=source)
    else:
        document = parse_json(text, source=source)
        if not isinstance(document, Mapping):
            raise DocumentError([f"expected an object, got {shown(document)}"], source=source)
        genotypes = {"": document} if "normal" in document else dict(document)
    if not genotypes:
        raise DocumentError(
            ["expected Genotype(normal=[...], ...) or a mapping of its fields, got none"], source=source
        )
    return genotypes, stem


def _pick(genotypes: dict[str, Any], stem: str, pick: str | None) -> tuple[Any, str]:
    """Return (fields, name) of the genotype that is meant."""
    if pick is None and len(genotypes) == 1:
        (name, fields), *_ = genotypes.items()
        return fields, name or stem
    if pick is None or pick not in genotypes:
        given = "one of several genotypes, by name" if pick is None else f"another name than {shown(pick)}"
        raise DocumentError([f"expected {given}{nearest(pick or '', genotypes)}"], source=stem)
    return genotypes[pick], pick


def _fields(value: ast.expr | None) -> dict[str, ast.expr] | None:
    """Return the fields of an expression if it is a genotype, else None."""
    if isinstance(value, ast.Call):
        function = value.func
        called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if called != "Genotype":
            return None
        positional = dict(zip(DartsGenotype.model_fields, value.args, strict=False))
        return positional | {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
    if isinstance(value, ast.Dict):
        fields = {
            key.value: field
            for key, field in zip(value.keys, value.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
        return fields if "normal" in fields else None
    return None
