"""Convert architecture codes of the original implementation to specs and back, without loss.

A code has two bits for an edge, identity then separable convolution: `00` is neither, `01` the convolution, `10` the
identity, `11` both. A cell is 14 codes, ordered by target node, then by source, as α is. An architecture is a list of
cells: a single cell that all depths share, or one for each depth.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from robnet_zoo.converters.python_text import MAX_BYTES, assigned, changed, literal, statements
from robnet_zoo.core.documents import Document, fspath, nearest, parse_json, read_bytes, shown
from robnet_zoo.errors import ArgumentError, DocumentError
from robnet_zoo.genotype.genotype import MAX_DEPTH, Genotype, NetworkConfig, Provenance, edges

ORIGINAL_OPERATIONS = ("identity", "sep_conv_3x3")
NODES = 4  # intermediate nodes of the original's cells; all of them are concatenated
CODES = ("00", "01", "10", "11")
Stem = Literal["cifar", "imagenet"]
PUBLISHED = {"robnet_large_v2": (64, 33)}  # channels and depth, where the original's differ from 36 and 20
PROVENANCE = Provenance(source="codes of the original implementation")


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
    """Return the spec of a list of codes.

    The cells at depths depth // 3 and 2 * depth // 3 are the reductions, as in the original.

    Args:
        codes: one cell that all depths share, or one for each depth (`cell_0`, `cell_1`, ...).
        name: the spec's name.
        channels: of a node in the first cell.
        depth: the number of cells.
        num_classes: the number of logits.
        stem: `cifar`, or `imagenet`, which divides height and width by 4.
        input_size: (channels, H, W); by default (3, 32, 32), or (3, 224, 224) with the imagenet stem.
        provenance: where the codes are from.

    Raises:
        DocumentError: names the position of every bad code.
    """
    check_depth(depth, source=name)
    problems = list(_code_problems(codes, depth))
    if problems:
        raise DocumentError(problems, source=name)
    names = ["cell"] if len(codes) == 1 else [f"cell_{index}" for index in range(depth)]
    concat = list(range(2, 2 + NODES))
    data = {
        "schema_version": 1,
        "name": name,
        "operations": ORIGINAL_OPERATIONS,
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


def check_depth(depth: int, *, source: str) -> None:
    """Raise DocumentError for more cells than a spec has, before there is a list of them."""
    if not isinstance(depth, int) or depth > MAX_DEPTH:
        raise DocumentError([f"depth: expected at most {MAX_DEPTH:,} cells, got {shown(depth)}"], source=source)


def to_codes(spec: Genotype) -> list[list[str]]:
    """Return the codes of a spec: a single list if all depths name the same cell, else one for each depth.

    Raises:
        DocumentError: the original has no code for a cell, because of its operations, nodes or outputs.
    """
    problems = [problem for name in dict.fromkeys(spec.layout) for problem in _cell_problems(spec, name)]
    if problems:
        raise DocumentError(problems, source=spec.name)
    names = spec.layout[:1] if len(set(spec.layout)) == 1 else spec.layout
    return [[_code(spec, row) for row in spec.cells[name].alpha] for name in names]


def from_original_json(data: Mapping[str, Any] | str | os.PathLike[str], *, name: str | None = None) -> Genotype:
    """Return the spec of the original's codes and parameters.

    Args:
        data: a mapping or the path of a JSON file, of one of two forms. A single architecture is
            `{"codes": [...], "model_param": {"C": ..., ...}}`. Several are
            `{"robnet_large": [...], ..., "model_param": {"robnet_large_cifar10": {...}, ...}}`.
        name: of a single architecture, the name for the spec, by default the file's stem. Of several, a key of
            `model_param`; the codes are then the ones whose own name it starts with.

    Raises:
        DocumentError: the data has neither form, or the name is unknown.
    """
    source, stem = "", "original"
    if not isinstance(data, Mapping):
        source, stem = str(data), Path(data).stem
        data = parse_json(read_bytes(data), source=source)
    if not isinstance(data, Mapping):
        raise DocumentError([f"expected an object, got {shown(data)}"], source=source)
    if "codes" in data:
        name, key = name or stem, "model_param"
        codes, parameters = data["codes"], data.get("model_param")
    else:
        name, codes, parameters = _pick(data, name, source)
        key = f"model_param.{name}"
    try:
        return _from_parameters(codes, ModelParameters.parse(parameters), name)
    except DocumentError as error:
        raise DocumentError(error.problems, source=": ".join(filter(None, [source, error.source or key]))) from None


def to_original_json(spec: Genotype) -> dict[str, Any]:
    """Return the original's codes and parameters of a spec; `from_original_json` turns them into the same function.

    Raises:
        DocumentError: the original cannot express the spec.
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


def convert_codes(
    file: Path,
    *,
    name: str | None = None,
    channels: int | None = None,
    depth: int | None = None,
    num_classes: int = 10,
    stem: Stem = "cifar",
) -> Genotype | str:
    """Convert code lists of the original to a spec, or a spec to code lists. No file is executed.

    The file is the original's `architecture_code.py`, JSON such as {"codes": ..., "model_param": ...}, or a spec.

    Args:
        file: A Python file of code lists, or a JSON file of either form.
        name: Which of several architectures in the file.
        channels: For a Python file, channels of a node in the first cell; by default 36, for robnet_large_v2 64.
        depth: For a Python file, number of cells; by default as many as are listed, of a shared cell 20, for
            robnet_large_v2 33.
        num_classes: For a Python file, logits; by default 10.
        stem: For a Python file, cifar for 32x32 images (the default), imagenet for 224x224.

    Returns:
        The spec, or the code lists as JSON.

    Raises:
        DocumentError: the file has none of these forms, or the original cannot express the spec.
        ArgumentError: a JSON file brings its own channels, depth, classes and stem.
    """
    file = Path(fspath(file))
    if file.suffix.lower() == ".py":
        codes, called = _python_codes(file, name)
        usual_channels, usual_depth = PUBLISHED.get(called, (36, 20))
        return from_codes(
            codes,
            name=called,
            channels=usual_channels if channels is None else channels,
            depth=(len(codes) if len(codes) > 1 else usual_depth) if depth is None else depth,
            num_classes=num_classes,
            stem=stem,
            provenance=PROVENANCE,
        )
    if (channels, depth, num_classes, stem) != (None, None, 10, "cifar"):
        expected = "expected neither channels, depth, num_classes nor stem"
        raise ArgumentError(f"{file}: {expected}, as a JSON file has them in its model_param")
    data = parse_json(read_bytes(file), source=str(file))
    if isinstance(data, Mapping) and "schema_version" in data:
        return json.dumps(to_original_json(Genotype.load(file))) + "\n"
    return from_original_json(file, name=name)


class ModelParameters(Document):
    """The keyword arguments of the original's network. Those that are alike in all published models are fixed here."""

    C: int
    num_classes: int
    layers: int
    share: bool | None = None  # whether all depths share a cell, which the number of cells says too
    ImgNetBB: bool = False  # ImageNet stem
    steps: Literal[4] = 4  # NODES
    multiplier: Literal[4] = 4  # nodes that are concatenated
    stem_multiplier: Literal[3] = 3
    AdPoolSize: Literal[1] = 1


def _from_parameters(codes: Any, parameters: ModelParameters, name: str) -> Genotype:
    """Return the spec of codes and the original's parameters."""
    several = isinstance(codes, list | tuple) and len(codes) > 1
    if isinstance(codes, list | tuple) and parameters.share is not None and parameters.share == several:
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
        provenance=PROVENANCE,
    )


def _python_codes(file: Path, name: str | None) -> tuple[Any, str]:
    """Return the named code lists of a Python file, or its only ones, and their name."""
    source = str(file)
    lists: list[str] = []  # names that lists were assigned to
    values: dict[str, Any] = {}  # lists, and texts that say why an expression is not one
    try:
        text = read_bytes(file, limit=MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DocumentError(["expected a Python text, got one that is not UTF-8"], source=source) from None
    for statement in statements(text, source):
        names, expression = assigned(statement)
        later = f"expected lists that are written out at once, got a change of them in line {statement.lineno}"
        values |= dict.fromkeys(changed(statement) & values.keys(), later)
        if isinstance(expression, ast.Name):  # a second name for the same lists
            value: Any = values.get(expression.id, f"expected lists of codes, got the unknown {expression.id}")
        else:
            value = _literal_or_reason(expression)
        values |= dict.fromkeys(names, value)
        if isinstance(value, list):
            lists += [key for key in names if key and key not in lists]
    name = lists[0] if name is None and len(lists) == 1 else name
    if name is None or name not in values:
        expected = "one of several code lists, by name, got none" if lists else "code lists with a name, got none"
        if name is not None:
            expected = f"the name of code lists, got {shown(name)}"
        raise DocumentError([f"expected {expected}{nearest(name or '', lists)}"], source=source)
    if not isinstance(values[name], list):
        raise DocumentError([f"{name}: {values[name]}"], source=source)
    return values[name], name


def _literal_or_reason(expression: ast.expr | None) -> Any:
    """Return the list that an expression writes out, or a text that says why it is not one."""
    if expression is None:
        return "expected lists of codes, got nothing"
    try:
        value = literal(expression)
    except DocumentError as error:
        return error.problems[0]
    return value if isinstance(value, list) else f"expected lists of codes, got {shown(value)}"


def _pick(data: Mapping[str, Any], name: str | None, source: str) -> tuple[str, Any, Any]:
    """Return (name, codes, parameters) of the named architecture among several."""
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
    """Yield what is wrong with a list of codes."""
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
    """Yield why the original cannot express a cell."""
    cell = spec.cells[name]
    if cell.nodes != NODES:
        yield f"cells.{name}.alpha: expected {len(edges(NODES))} edges, as in the original, got {len(cell.alpha)}"
    elif cell.concat != tuple(range(2, 2 + NODES)):
        yield f"cells.{name}.concat: expected all nodes, as in the original, got {shown(cell.concat)}"
    for index, row in enumerate(cell.alpha):
        for operation, bit in zip(spec.operations, row, strict=True):
            if bit and operation not in ORIGINAL_OPERATIONS:
                yield f"cells.{name}.alpha[{index}]: expected only {' and '.join(ORIGINAL_OPERATIONS)}, got {operation}"


def _code(spec: Genotype, row: tuple[int, ...]) -> str:
    """Return the code of an edge, given its row of α."""
    carried = {operation for operation, bit in zip(spec.operations, row, strict=True) if bit}
    return "".join("1" if operation in carried else "0" for operation in ORIGINAL_OPERATIONS)
