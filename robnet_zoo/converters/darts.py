"""Convert genotypes of DARTS (Liu et al., ICLR 2019), and of all who search its space, to specs.

A genotype is two cells, `normal` and `reduce`. Each is a list of (operation, source): entries 2i and 2i + 1 are summed
into node 2 + i, and sources 0 and 1 are the cell's inputs. `normal_concat` and `reduce_concat` are the nodes that are
concatenated to the output. The network around the cells is the one that DARTS evaluates: a stem of 3C channels,
reductions at depths L // 3 and 2L // 3, and norms that learn a scale and a shift. Its auxiliary head and its drop-path
are for training only and not part of a spec.

Texts are read as data and never executed.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from robnet_zoo.converters.original.codes import Stem
from robnet_zoo.converters.python_text import MAX_BYTES, assigned, literal, statements
from robnet_zoo.core.documents import Document, Tuple, nearest, parse_json, read_bytes, shown
from robnet_zoo.errors import DocumentError
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


@dataclass(frozen=True)
class PublishedGenotype:
    """A bundled genotype and where it is from."""

    genotype: Mapping[str, Any]
    source: str
    paper: str

    @property
    def provenance(self) -> Provenance:
        """Return the provenance of the spec."""
        return Provenance(source=self.source, paper=self.paper)


def convert_darts(
    genotype: str,
    *,
    pick: str | None = None,
    name: str | None = None,
    channels: int = 36,
    depth: int = 20,
    num_classes: int = 10,
    stem: Stem = "cifar",
) -> Genotype:
    """Convert a DARTS-style genotype to the spec of the network that DARTS evaluates with it. The text is never run.

    Args:
        genotype: darts_v1, darts_v2, pdarts, pc_darts, pc_darts_imagenet, advrush, racl; a .json or Python file; or
            the text itself, such as "Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...],
            reduce_concat=range(2, 6))".
        pick: Which of several genotypes in the file, by name.
        name: The spec's name; by default the genotype's, else the file's stem.
        channels: Channels of a node in the first cell.
        depth: Number of cells.
        num_classes: Logits.
        stem: cifar for 32x32 images, imagenet for 224x224.

    Raises:
        DocumentError: names the part of the text that is wrong or that a spec cannot express.
    """
    if genotype in GENOTYPES:
        published = GENOTYPES[genotype]
        fields, called, provenance = published.genotype, genotype, published.provenance
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
    cells = {
        "normal": (genotype.normal, genotype.normal_concat),
        "reduce": (genotype.reduce, genotype.reduce_concat),
    }
    problems = [text for kind, (entries, concat) in cells.items() for text in _problems(kind, entries, concat)]
    if problems:
        raise DocumentError(problems, source=name)
    used = {NAMES[operation] for entries, _ in cells.values() for operation, _ in entries if operation != NONE}
    operations = [operation for operation in OPERATIONS if operation in used]
    reductions = sorted({depth // 3, 2 * depth // 3})
    data = {
        "schema_version": 1,
        "name": name,
        "operations": operations,
        "cells": {
            kind: {"alpha": _alpha(entries, operations), "concat": concat} for kind, (entries, concat) in cells.items()
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
    seen: set[tuple[int, int, str]] = set()
    for index, (operation, source) in enumerate(entries):
        node = 2 + index // 2
        if operation not in NAMES and operation != NONE:
            yield f"{kind}[{index}][0]: unknown operation {shown(operation)}{nearest(operation, [*NAMES, NONE])}"
        if not 0 <= source < node:
            yield f"{kind}[{index}][1]: expected a node before {node}, got {source}"
        if operation != NONE and (node, source, operation) in seen:
            text = f"expected another operation or source, got {shown(operation)} of node {source} a second time"
            yield f"{kind}[{index}]: {text}: an edge of a spec carries an operation once"
        seen.add((node, source, operation))
    last = 1 + len(entries) // 2
    if not concat or any(a >= b for a, b in pairwise(concat)) or not 2 <= concat[0] <= concat[-1] <= last:
        yield f"{kind}_concat: expected nodes from 2 to {last} in ascending order, got {shown(concat)}"


def _alpha(entries: tuple[tuple[str, int], ...], operations: list[str]) -> list[list[int]]:
    """Return α of a cell, (edges x operations)."""
    carried = {(source, 2 + index // 2, NAMES.get(name)) for index, (name, source) in enumerate(entries)}
    return [[int((*edge, operation) in carried) for operation in operations] for edge in edges(len(entries) // 2)]


def _read(genotype: str) -> tuple[dict[str, Any], str]:
    """Return every genotype in a file or a text by its name, and what to call a genotype that has no name."""
    if any(mark in genotype for mark in "({"):
        text, source, stem, is_json = genotype, "genotype", "genotype", genotype.lstrip().startswith('{"')
    else:
        path = Path(genotype)
        if not path.exists() and not path.suffix:
            near = nearest(genotype, GENOTYPES)
            raise DocumentError([f"neither a bundled genotype nor a file nor its text{near}"], source=shown(genotype))
        data = read_bytes(path, limit=MAX_BYTES)
        source, stem, is_json = os.fsdecode(path), path.stem, path.suffix.lower() == ".json"
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise DocumentError(["expected UTF-8 text"], source=source) from None
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


def _genotype(normal: str, reduce: str) -> Mapping[str, Any]:
    """Return a genotype from cells written as `operation source`, two for each node, all four nodes concatenated."""

    def entries(cell: str) -> tuple[tuple[str, int], ...]:
        words = cell.split()
        return tuple((name, int(source)) for name, source in zip(words[::2], words[1::2], strict=True))

    concat = (2, 3, 4, 5)
    fields = {"normal": entries(normal), "normal_concat": concat, "reduce": entries(reduce), "reduce_concat": concat}
    return MappingProxyType(fields)


_DARTS = "H. Liu, K. Simonyan, Y. Yang, DARTS: Differentiable Architecture Search, ICLR 2019 (arXiv:1806.09055)"
_PC_DARTS = (
    "Y. Xu, L. Xie, X. Zhang, X. Chen, G.-J. Qi, Q. Tian, H. Xiong, PC-DARTS: Partial Channel Connections for "
    "Memory-Efficient Architecture Search, ICLR 2020 (arXiv:1907.05737)"
)
GENOTYPES: Mapping[str, PublishedGenotype] = MappingProxyType(
    {
        "darts_v1": PublishedGenotype(
            _genotype(
                "sep_conv_3x3 1 sep_conv_3x3 0  skip_connect 0 sep_conv_3x3 1"
                "  skip_connect 0 sep_conv_3x3 1  sep_conv_3x3 0 skip_connect 2",
                "max_pool_3x3 0 max_pool_3x3 1  skip_connect 2 max_pool_3x3 0"
                "  max_pool_3x3 0 skip_connect 2  skip_connect 2 avg_pool_3x3 0",
            ),
            "genotype DARTS_V1 of the authors' code: first-order approximation",
            _DARTS,
        ),
        "darts_v2": PublishedGenotype(
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_3x3 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 skip_connect 0  skip_connect 0 dil_conv_3x3 2",
                "max_pool_3x3 0 max_pool_3x3 1  skip_connect 2 max_pool_3x3 1"
                "  max_pool_3x3 0 skip_connect 2  skip_connect 2 max_pool_3x3 1",
            ),
            "genotype DARTS_V2 of the authors' code: second-order approximation",
            _DARTS,
        ),
        "pdarts": PublishedGenotype(
            _genotype(
                "skip_connect 0 dil_conv_3x3 1  skip_connect 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 sep_conv_3x3 3  sep_conv_3x3 0 dil_conv_5x5 4",
                "avg_pool_3x3 0 sep_conv_5x5 1  sep_conv_3x3 0 dil_conv_5x5 2"
                "  max_pool_3x3 0 dil_conv_3x3 1  dil_conv_3x3 1 dil_conv_5x5 3",
            ),
            "genotype PDARTS of the authors' code, searched on CIFAR-10",
            "X. Chen, L. Xie, J. Wu, Q. Tian, Progressive Differentiable Architecture Search: Bridging the Depth Gap "
            "between Search and Evaluation, ICCV 2019 (arXiv:1904.12760)",
        ),
        "pc_darts": PublishedGenotype(
            _genotype(
                "sep_conv_3x3 1 skip_connect 0  sep_conv_3x3 0 dil_conv_3x3 1"
                "  sep_conv_5x5 0 sep_conv_3x3 1  avg_pool_3x3 0 dil_conv_3x3 1",
                "sep_conv_5x5 1 max_pool_3x3 0  sep_conv_5x5 1 sep_conv_5x5 2"
                "  sep_conv_3x3 0 sep_conv_3x3 3  sep_conv_3x3 1 sep_conv_3x3 2",
            ),
            "genotype PC_DARTS_cifar of the authors' code, searched on CIFAR-10",
            _PC_DARTS,
        ),
        "pc_darts_imagenet": PublishedGenotype(
            _genotype(
                "skip_connect 1 sep_conv_3x3 0  sep_conv_3x3 0 skip_connect 1"
                "  sep_conv_3x3 1 sep_conv_3x3 3  sep_conv_3x3 1 dil_conv_5x5 4",
                "sep_conv_3x3 0 skip_connect 1  dil_conv_5x5 2 max_pool_3x3 1"
                "  sep_conv_3x3 2 sep_conv_3x3 1  sep_conv_5x5 0 sep_conv_3x3 3",
            ),
            "genotype PC_DARTS_image of the authors' code, searched on ImageNet",
            _PC_DARTS,
        ),
        "advrush": PublishedGenotype(
            _genotype(
                "sep_conv_3x3 1 sep_conv_3x3 0  sep_conv_5x5 0 sep_conv_3x3 1"
                "  sep_conv_3x3 1 sep_conv_3x3 0  skip_connect 0 sep_conv_3x3 1",
                "sep_conv_3x3 0 sep_conv_3x3 1  skip_connect 0 dil_conv_3x3 2"
                "  skip_connect 0 avg_pool_3x3 1  skip_connect 0 skip_connect 2",
            ),
            "genotype ADVRUSH of the authors' code",
            "J. Mok, B. Na, H. Choe, S. Yoon, AdvRush: Searching for Adversarially Robust Neural Architectures, "
            "ICCV 2021 (arXiv:2108.01289)",
        ),
        "racl": PublishedGenotype(
            _genotype(
                "sep_conv_3x3 0 sep_conv_3x3 1  sep_conv_5x5 0 skip_connect 1"
                "  sep_conv_3x3 0 skip_connect 3  sep_conv_3x3 3 skip_connect 4",
                "sep_conv_3x3 0 sep_conv_5x5 1  avg_pool_3x3 0 dil_conv_3x3 1"
                "  sep_conv_3x3 0 sep_conv_5x5 1  sep_conv_3x3 2 dil_conv_3x3 3",
            ),
            "genotype RACL in the code of AdvRush's authors; its own authors' code is not known to be public",
            "M. Dong, Y. Li, Y. Wang, C. Xu, Adversarially Robust Neural Architectures (arXiv:2009.00902)",
        ),
    }
)
