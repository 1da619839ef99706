"""Architecture codes of the original implementation <-> specs, without loss.

A code is two bits an edge, identity then separable convolution: `00` none, `01` convolution, `10` identity, `11` both.
A cell is 14 codes, ordered by target node, then source, as α is. An architecture is a list of cells: one cell that
every depth shares, or one a depth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from robnet_zoo.core.documents import Document, nearest, parse_json, read_bytes, shown
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import Genotype, NetworkConfig, Provenance, edges

OPERATIONS = ("identity", "sep_conv_3x3")
NODES = 4  # intermediate nodes of the original's cells; all of them are concatenated
CODES = ("00", "01", "10", "11")
Stem = Literal["cifar", "imagenet"]


def from_codes(
    codes: Sequence[Sequence[str]],
    *,
    name: str,
    channels: int,
    depth: int,
    num_classes: int = 10,
    stem: Stem = "cifar",
    input_size: tuple[int, int, int] | None = None,
    provenance: Provenance | None = None,
) -> Genotype:
    """The spec of a list of codes: one cell that all depths share, or one a depth (`cell_0`, `cell_1`, ...).

    The cells at depths depth // 3 and 2 * depth // 3 are the reductions, as in the original.
    input_size: (channels, H, W), by default (3, 32, 32), or (3, 224, 224) with the imagenet stem.
    Raises DocumentError with the places of bad codes.
    """
    problems = list(_code_problems(codes, depth))
    if problems:
        raise DocumentError(problems, source=name)
    names = ["cell"] if len(codes) == 1 else [f"cell_{index}" for index in range(depth)]
    concat = list(range(2, 2 + NODES))
    data = {
        "schema_version": 1,
        "name": name,
        "operations": OPERATIONS,
        "cells": {
            name: {"alpha": [[int(bit) for bit in code] for code in cell], "concat": concat}
            for name, cell in zip(names, codes, strict=True)
        },
        "layout": names * depth if len(codes) == 1 else names,
        "network": {
            "stem": stem,
            "channels": channels,
            "depth": depth,
            "reductions": sorted({depth // 3, 2 * depth // 3}),
            "num_classes": num_classes,
            "input_size": input_size or ((3, 32, 32) if stem == "cifar" else (3, 224, 224)),
            "affine": False,
        },
        "provenance": provenance or Provenance(),
    }
    return Genotype.parse(data, source=name)


def to_codes(spec: Genotype) -> list[list[str]]:
    """The codes of a spec: one list if one cell is named at every depth, else one a depth.

    Raises DocumentError if the original has no code for a cell: other operations, nodes or outputs.
    """
    problems = [problem for name in dict.fromkeys(spec.layout) for problem in _cell_problems(spec, name)]
    if problems:
        raise DocumentError(problems, source=spec.name)
    names = spec.layout[:1] if len(set(spec.layout)) == 1 else spec.layout
    return [[_code(spec, row) for row in spec.cells[name].alpha] for name in names]


def from_original_json(data: Mapping[str, Any] | str | os.PathLike[str], *, name: str | None = None) -> Genotype:
    """The spec of the original's codes and parameters, as a mapping or as the path of a JSON file.

    Either `{"codes": [...], "model_param": {"C": ..., ...}}`, where `name` becomes the spec's name (by default the
    file's stem), or many architectures, `{"robnet_large": [...], ..., "model_param": {"robnet_large_cifar10": {...}}}`,
    where `name` is a key of `model_param` and the codes are those whose own name it starts with.
    Raises DocumentError.
    """
    source, stem = "", "original"
    if not isinstance(data, Mapping):
        source, stem = str(data), Path(data).stem
        data = parse_json(read_bytes(data), source=source)
    if not isinstance(data, Mapping):
        raise DocumentError([f"expected an object, got {shown(data)}"], source=source)
    if "codes" in data:
        name, place = name or stem, "model_param"
        codes, parameters = data["codes"], data.get("model_param")
    else:
        name, codes, parameters = _pick(data, name, source)
        place = f"model_param.{name}"
    try:
        return _from_parameters(codes, ModelParameters.parse(parameters), name)
    except DocumentError as error:
        raise DocumentError(error.problems, source=": ".join(filter(None, [source, error.source or place]))) from None


def to_original_json(spec: Genotype) -> dict[str, Any]:
    """A spec as the original's codes and parameters; `from_original_json` gives the same function again.

    Raises DocumentError for a spec that the original cannot express.
    """
    network = spec.network
    codes = to_codes(spec)
    parameters = {"C": network.channels, "num_classes": network.num_classes, "layers": network.depth}
    parameters |= {"share": True} if len(codes) == 1 else {}
    parameters |= {"ImgNetBB": True} if network.stem == "imagenet" else {}
    data = {"codes": codes, "model_param": parameters}
    original = from_original_json(data, name=spec.name).network
    lost = [
        f"network.{key}: expected {shown(expected)}, as in the original, got {shown(got)}"
        for key in NetworkConfig.model_fields
        if (expected := getattr(original, key)) != (got := getattr(network, key))
    ]
    if lost:
        raise DocumentError(lost, source=spec.name)
    return data


def convert_codes(path: str | os.PathLike[str], *, name: str | None = None) -> str:
    """A JSON file of the original's codes as a spec, or a spec as the original's codes: JSON, with a newline.

    name: see `from_original_json`. Raises DocumentError.
    """
    data = parse_json(read_bytes(path), source=str(path))
    if isinstance(data, Mapping) and "schema_version" in data:
        return json.dumps(to_original_json(Genotype.load(path))) + "\n"
    return from_original_json(path, name=name).dumps()


class ModelParameters(Document):
    """The keyword arguments of the original's network. What it fixes in all published models is fixed here."""

    C: int
    num_classes: int
    layers: int
    share: bool | None = None  # whether all depths share one cell; the number of cells says it too
    ImgNetBB: bool = False  # ImageNet stem
    steps: Literal[4] = 4  # NODES
    multiplier: Literal[4] = 4  # nodes that are concatenated
    stem_multiplier: Literal[3] = 3
    AdPoolSize: Literal[1] = 1


def _from_parameters(codes: Any, parameters: ModelParameters, name: str) -> Genotype:
    several = isinstance(codes, Sequence) and len(codes) > 1
    if parameters.share is not None and parameters.share == several:
        expected = "one list of codes, which all cells share" if parameters.share else "a list of codes a cell"
        raise DocumentError(
            [f"expected {expected} (share is {shown(parameters.share)}), got {len(codes)}"], source=name
        )
    return from_codes(
        codes,
        name=name,
        channels=parameters.C,
        depth=parameters.layers,
        num_classes=parameters.num_classes,
        stem="imagenet" if parameters.ImgNetBB else "cifar",
        provenance=Provenance(source="codes of the original implementation"),
    )


def _pick(data: Mapping[str, Any], name: str | None, source: str) -> tuple[str, Any, Any]:
    """(name, codes, parameters) of one architecture among many."""
    parameters = data.get("model_param")
    if not isinstance(parameters, Mapping):
        raise DocumentError([f"model_param: expected an object, got {shown(parameters)}"], source=source)
    if name is None or name not in parameters:
        given = "a name" if name is None else f"another name than {shown(name)}"
        raise DocumentError([f"model_param: expected {given}{nearest(name or '', parameters)}"], source=source)
    known = [key for key in data if key not in ("note", "model_param")]
    codes = max((key for key in known if name.startswith(key)), key=len, default=None)
    if codes is None:
        raise DocumentError([f"expected codes that {shown(name)} starts with{nearest(name, known)}"], source=source)
    return name, data[codes], parameters[name]


def _code_problems(codes: object, depth: int) -> Iterator[str]:
    if not isinstance(codes, list | tuple):
        yield f"codes: expected a list of lists of codes, got {shown(codes)}"
        return
    if len(codes) not in (1, depth):
        yield f"codes: expected 1 cell (shared) or {depth} (one a depth), got {len(codes)}"
    expected = len(edges(NODES))
    for cell, row in enumerate(codes):
        if not isinstance(row, list | tuple):
            yield f"codes[{cell}]: expected a list of {expected} codes, got {shown(row)}"
            continue
        if len(row) != expected:
            yield f"codes[{cell}]: expected {expected} codes, one an edge, got {len(row)}"
        for edge, code in enumerate(row):
            if code not in CODES:
                yield f"codes[{cell}][{edge}]: expected one of {', '.join(CODES)}, got {shown(code)}"


def _cell_problems(spec: Genotype, name: str) -> Iterator[str]:
    cell = spec.cells[name]
    if cell.nodes != NODES:
        yield f"cells.{name}.alpha: expected {len(edges(NODES))} edges, as in the original, got {len(cell.alpha)}"
    elif cell.concat != tuple(range(2, 2 + NODES)):
        yield f"cells.{name}.concat: expected all nodes, as in the original, got {shown(cell.concat)}"
    for index, row in enumerate(cell.alpha):
        for operation, bit in zip(spec.operations, row, strict=True):
            if bit and operation not in OPERATIONS:
                yield f"cells.{name}.alpha[{index}]: expected only {' and '.join(OPERATIONS)}, got {operation}"


def _code(spec: Genotype, row: tuple[int, ...]) -> str:
    carried = {operation for operation, bit in zip(spec.operations, row, strict=True) if bit}
    return "".join("1" if operation in carried else "0" for operation in OPERATIONS)
