"""`robnet-zoo list`, `show`, `validate` and `schema`: what there is, and what an architecture is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from robnet_zoo.cli.parameters import Json, fail, remark
from robnet_zoo.cli.starting import starting
from robnet_zoo.core.documents import nearest
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import Denoise, Genotype
from robnet_zoo.genotype.specs import LOCAL, RUN_OF_TIMM, SPECS, load_spec, spec_names

MAX_LAYOUT = 80  # characters


def list_(*, as_json: Json = False) -> None:
    """List the bundled architectures and their trained weights."""
    from robnet_zoo.genotype.blueprint import multiply_adds, parameters
    from robnet_zoo.zoo import weights

    entries = weights.manifest().entries
    rows: list[dict[str, Any]] = []
    for name in spec_names():
        spec = SPECS.own(name)
        rows.append(
            {
                "name": name,
                "parameters": parameters(spec),
                "multiply_adds": multiply_adds(spec),
                "weights": [f"{name}.{entry.tag}" for entry in entries if entry.model == name],
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'name':24} {'parameters':>12} {'multiply-adds':>14}  weights")
    for row in rows:
        tags = ", ".join(row["weights"]) or "-"
        print(f"{row['name']:24} {row['parameters']:>12,} {row['multiply_adds'] / 1e6:>12,.1f} M  {tags}")


def show(
    spec: str,
    *,
    draw: Path | None = None,
    cell: str | None = None,
    draw_network: Path | None = None,
    as_json: Json = False,
) -> None:
    """Summarise an architecture, and draw a cell of it or the whole network.

    Args:
        spec: A bundled name, the path of a spec, or the folder of a training run.
        draw: Draw a cell into this .svg or .png file.
        cell: The cell to draw; by default the first of the layout.
        draw_network: Draw the whole network, every cell in its place, into this .svg or .png file.
    """
    from robnet_zoo.genotype import draw as pictures

    for flag, path in (("--draw", draw), ("--draw-network", draw_network)):
        if path is not None and path.suffix.lower() not in (".svg", ".png"):
            fail(f"{flag}: expected a file that ends in .svg or .png, got {path.name!r}")
    drawn = ""
    folder = Path(spec.removeprefix(LOCAL))  # as training leaves it
    if os.path.isfile(folder / RUN_OF_TIMM) and spec not in spec_names():
        if draw is not None or cell is not None or draw_network is not None:
            fail(f"--draw, --draw-network, --cell: expected a spec, got {spec}, whose architecture is a model of timm")
        summary = _summary_of_timm(folder / RUN_OF_TIMM)
    else:
        genotype = load_spec(folder if spec.startswith(LOCAL) else spec)
        summary = _summary(genotype)
        name = genotype.layout[0] if cell is None else cell
        if name not in genotype.cells:
            fail(f"--cell: unknown cell {name!r}{nearest(name, genotype.cells)}")
        if draw is not None:
            pictures.draw_cell(genotype, name, draw)
            drawn = name
        if draw_network is not None:
            pictures.draw_network(genotype, draw_network)
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        for key, value in summary.items():
            text = (
                f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
            )
            print(f"{key.replace('_', ' '):18} {text}")
    for path, what in ((draw, drawn), (draw_network, "the whole network")):
        if path is not None:
            print(f"{path}: {what}", file=sys.stderr if as_json else sys.stdout)


def _summary_of_timm(document: Path) -> dict[str, Any]:
    """Return what is known of the architecture of a training run, if it is a model of timm."""
    with starting():
        from robnet_zoo.zoo.architecture import TimmArchitecture

        architecture = TimmArchitecture.load(document)
        costs = architecture.costs()
    return {
        "name": architecture.name,
        "hash": architecture.hash,
        "input_size": "x".join(map(str, architecture.input_size)),
        "classes": architecture.num_classes,
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
    }


def _summary(spec: Genotype) -> dict[str, Any]:
    from robnet_zoo.genotype.blueprint import multiply_adds, parameters

    network = spec.network
    return {
        "name": spec.name,
        "hash": spec.hash,
        "operations": ", ".join(spec.operations),
        "cells": f"{len(spec.cells)} different, {network.depth} in all",
        "layout": _layout(spec.layout),
        "reductions": ", ".join(map(str, network.reductions)),
        "stem": network.stem,
        **({"denoise": _denoise(network.denoise)} if network.denoise else {}),
        "channels": network.channels,
        "input_size": "x".join(map(str, network.input_size)),
        "classes": network.num_classes,
        "density": spec.density,
        "direct_convs": spec.direct_convs,
        "skip_convs": spec.skip_convs,
        "budget": spec.budget,
        "parameters": parameters(spec),
        "multiply_adds": multiply_adds(spec),
    }


def _denoise(denoise: Denoise) -> str:
    return f"{denoise.form} after {', '.join(map(str, denoise.after))}"


def _layout(names: tuple[str, ...]) -> str:
    """Return the cells of a network in a line of ordinary length."""
    runs = _runs(names)
    text = ", ".join(runs)
    return text if len(text) <= MAX_LAYOUT or len(runs) < 4 else f"{runs[0]}, {runs[1]}, ..., {runs[-1]}"


def _runs(names: tuple[str, ...]) -> list[str]:
    """Return names with repetitions counted: `a a a b` as `3 a` and `b`."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return [name if count == 1 else f"{count} {name}" for name, count in runs]


def validate(*specs: Path, as_json: Json = False) -> None:
    """Check spec files, and exit with code 2 if any is wrong.

    Args:
        specs: JSON files.
    """
    if not specs:
        fail("validate: expected one or more files, got none")
    verdicts: list[dict[str, Any]] = []
    for path in specs:
        try:
            verdicts.append({"file": str(path), "hash": Genotype.load(path).hash, "problems": []})
        except DocumentError as error:
            verdicts.append({"file": str(path), "hash": None, "problems": list(error.problems)})
    if as_json:
        print(json.dumps(verdicts, indent=1))
    for verdict in verdicts:
        for problem in verdict["problems"]:
            remark(f"{verdict['file']}: {problem}")
        if not verdict["problems"] and not as_json:
            print(f"{verdict['file']}: valid, hash {verdict['hash'][:12]}")
    if any(verdict["problems"] for verdict in verdicts):
        sys.exit(2)


def schema() -> None:
    """Print the JSON Schema of a spec."""
    print(json.dumps(Genotype.model_json_schema(), indent=2))
