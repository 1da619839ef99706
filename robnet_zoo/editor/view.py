"""What the page shows of a draft. Every figure and every sentence is made here; the page only lays them out."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robnet_zoo.core.documents import Place, Problem
from robnet_zoo.core.wording import counted
from robnet_zoo.editor.changes import PASSES
from robnet_zoo.editor.draft import Draft, DraftCell
from robnet_zoo.editor.published import nearest_cells
from robnet_zoo.genotype.blueprint import blueprint, multiply_adds, parameters
from robnet_zoo.genotype.distance import MAX_LIVE_NODES
from robnet_zoo.genotype.draw import colours
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.passes import drop_dead_edges

Json = dict[str, Any]
# Data to train on, by (channels, height, width) and number of classes.
DATA = {
    ((3, 32, 32), 10): "cifar10-train:data",
    ((3, 32, 32), 100): "cifar100-train:data",
    ((3, 64, 64), 200): "tiny-imagenet-train:data",
    ((3, 224, 224), 1000): "imagenet-train:data",
}
SAME_FUNCTION = {
    True: "Both compile to the same function: their hashes are equal.",
    False: "They compile to different functions.",
    None: "Whether they are the same function cannot be told before both compile.",
}


def view(draft: Draft, *, file: Path | None = None) -> Json:
    """Return what the page shows of a draft: the draft itself, its cells, and what it is or what is wrong with it.

    Args:
        draft: of any kind.
        file: the spec's file, for the line that trains it.
    """
    spec, problems = draft.compiled()
    shown: Json = {
        "document": draft.document,
        "text": draft.dumps(),
        "cells": {name: _cell(draft, name, cell) for name, cell in draft.cells.items()},
        "layout": _layout(draft, spec),
        "colours": dict(zip(draft.operations, colours(len(draft.operations)), strict=True)),
        "problems": [_problem(problem) for problem in problems],
    }
    if spec is None:
        return shown | {"hash": None, "figures": [], "passes": [], "line": None}
    return shown | {
        "hash": spec.hash,
        "figures": figures(spec),
        "passes": list(_removals(spec)),
        "line": training_line(spec, file),
    }


def figures(spec: Genotype) -> list[Json]:
    """Return the figures of a spec, each with its name, its value and its text."""
    direct, skip = spec.direct_convs, spec.skip_convs
    mean = (direct + skip) / len(spec.layout)
    operations, size = multiply_adds(spec), parameters(spec)
    rows: list[tuple[str, str, float | str, str, str]] = [
        ("parameters", "parameters", size, f"{size:,}", ""),
        ("multiply_adds", "multiply-adds", operations, f"{operations / 1e6:,.1f} M", "for one image"),
        ("density", "density", spec.density, f"{spec.density:.4f}", "share of the switches that are on"),
        ("direct_convs", "direct convolutions", direct, f"{direct:,}", "over all cells"),
        ("skip_convs", "skip convolutions", skip, f"{skip:,}", "over all cells"),
        ("budget", "budget", spec.budget, spec.budget, f"{mean:.2f} convolutions a cell"),
    ]
    return [dict(zip(("key", "name", "value", "text", "note"), row, strict=True)) for row in rows]


def neighbours(draft: Draft, name: str) -> Json:
    """Return the published cells that are nearest to a cell of a draft. name: of the cell."""
    cell = draft.cells[name]
    return {
        "cell": name,
        "neighbours": [vars(neighbour) for neighbour in nearest_cells(cell, draft.operations)],
        "why_not": f"Cells of more than {MAX_LIVE_NODES} live nodes are not compared."
        if len(cell.live_nodes - {0, 1}) > MAX_LIVE_NODES
        else "",
    }


def comparison(draft: Draft, other: Draft) -> Json:
    """Return two drafts side by side: their figures, and the switches in which cells of the same name differ.

    A draft that does not compile has no figures, and nobody can tell which function it would be.
    """
    both = [side.compiled()[0] for side in (draft, other)]
    columns = [[] if spec is None else figures(spec) for spec in both]
    names = columns[0] or columns[1]
    rows = [
        {
            "name": figure["name"],
            "texts": [column[index]["text"] if column else "–" for column in columns],
            "change": _change(columns[0][index], columns[1][index]) if all(columns) else "",
        }
        for index, figure in enumerate(names)
    ]
    network = [_network(side) for side in (draft, other)]
    rows += [
        {"name": key, "texts": [side[key] for side in network], "change": "" if equal else "differs"}
        for key in network[0]
        if not (equal := network[0][key] == network[1][key]) or key in ("cells", "channels", "images")
    ]
    hashes = [None if spec is None else spec.hash for spec in both]
    same = None if None in hashes else hashes[0] == hashes[1]
    return {
        "names": [draft.name, other.name],
        "hashes": hashes,
        "same_function": same,
        "verdict": SAME_FUNCTION[same],
        "rows": rows,
        "sides": [view(side) for side in (draft, other)],
    }


def training_line(spec: Genotype, file: Path | None) -> str:
    """Return the command that trains a spec. file: where the spec is, by default where a download puts it."""
    path = str(file) if file is not None else f"{spec.name}.json"
    data = DATA.get(spec.signature, "DATA")
    return shlex.join(
        ["robnet-zoo", "train", path, "--data", data, "--output", f"runs/{spec.name}", "--recipe", "fast"]
    )


def _problem(problem: Problem) -> Json:
    location, text = problem
    return {"place": [step for step in location if step != "[key]"], "where": _where(location), "text": text}


def _where(location: Place) -> str:
    """Return a place as validation messages have it: `cells.normal.alpha[4]`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _cell(draft: Draft, name: str, cell: DraftCell) -> Json:
    """Return a cell as a graph: what is in it, what is on, and what the output depends on."""
    reduced = cell.without_dead_edges(draft.operations)
    live, zeros = reduced.live_nodes, cell.zeros(draft.operations)
    depths = [depth for depth, other in enumerate(draft.layout) if other == name]
    return {
        "nodes": [
            {
                "node": node,
                "input": node < 2,
                "live": node in live,
                "zero": node in zeros,
                "output": node in cell.concat,
            }
            for node in range(2 + cell.nodes)
        ],
        "edges": [
            {
                "source": edge[0],
                "target": edge[1],
                "on": [operation for operation, bit in zip(draft.operations, row, strict=True) if bit],
                "live": edge[1] in live and any(row) == any(kept),
                "direct": edge[1] == edge[0] + 1,
            }
            for edge, row, kept in zip(cell.edges, cell.alpha, reduced.alpha, strict=True)
        ],
        "depths": depths,
        "summary": f"{counted(cell.nodes, 'node')}, {counted(sum(map(sum, cell.alpha)), 'operation')} on edges, "
        + (f"at {counted(len(depths), 'depth')}" if depths else "not in the layout"),
    }


def _layout(draft: Draft, spec: Genotype | None) -> list[Json]:
    """Return the cells of the layout, in order; with channels and size if the draft compiles."""
    sizes = [""] * len(draft.layout)
    if spec is not None:
        outputs = [cell.output for cell in blueprint(drop_dead_edges(spec)).cells]
        sizes = [f"{output.channels}×{output.size[0]}×{output.size[1]}" for output in outputs]
    network = draft.network
    denoised = network.denoise.after if network.denoise else ()
    return [
        {"cell": name, "reduction": depth in network.reductions, "denoised": depth in denoised, "output": sizes[depth]}
        for depth, name in enumerate(draft.layout)
    ]


def _removals(spec: Genotype) -> Iterator[Json]:
    """Yield the passes that would remove something of a spec, each with what that is."""
    for name, rewrite in PASSES.items():
        after = rewrite(spec)
        parts = list(_removed(spec, after))
        if parts:
            summary = (inspect.getdoc(rewrite) or "").splitlines()[0]
            yield {"name": name, "summary": summary, "removes": ", ".join(parts)}


def _removed(before: Genotype, after: Genotype) -> Iterator[str]:
    cells = len(before.cells) - len(after.cells)
    if cells:
        gone = [name for name in before.cells if name not in after.cells]
        yield counted(cells, "cell") + (f" ({', '.join(gone)})" if len(gone) == cells <= 4 else "")
    operations = [name for name in before.operations if name not in after.operations]
    if operations:
        yield f"{counted(len(operations), 'unused operation')} ({', '.join(operations)})"
    pairs = [(before.cells[name], cell) for name, cell in after.cells.items() if name in before.cells]
    if nodes := sum(old.nodes - new.nodes for old, new in pairs):
        yield counted(nodes, "node")
    if switches := sum(sum(map(sum, old.alpha)) - sum(map(sum, new.alpha)) for old, new in pairs):
        yield f"{counted(switches, 'operation')} on edges"


def _change(figure: Json, other: Json) -> str:
    """Return by how much the second figure differs from the first."""
    old, new = figure["value"], other["value"]
    if figure["text"] == other["text"]:
        return "the same"
    if isinstance(old, str):
        return "differs"
    return f"{new / old - 1:+.1%}" if old else "differs"


def _network(draft: Draft) -> dict[str, str]:
    network = draft.network
    return {
        "cells": f"{len(set(draft.layout))} different, {len(draft.layout)} in all",
        "channels": str(network.channels),
        "images": "x".join(map(str, network.input_size)),
        "classes": str(network.num_classes),
        "reductions": ", ".join(map(str, network.reductions)) or "none",
        "stem": network.stem,
        "operations": ", ".join(draft.operations),
        "scale and shift": "learned" if network.affine else "none",
        "denoising": "none"
        if network.denoise is None
        else f"{network.denoise.form} after {', '.join(map(str, network.denoise.after))}",
    }
