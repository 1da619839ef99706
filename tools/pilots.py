"""Compare changes of the recipe `fast`, one at a time, on a small network: `python -m tools.pilots --help`.

Every arm trains a narrow RobNet-free on a part of the training images, with each seed, and is measured on images that
no arm trained on. `tools.docs` makes the table of docs/training.md from the document, which is saved behind each run.
Runs continue where they were interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import cyclopts
import numpy as np
from pydantic import Field

from robnet_zoo import data
from robnet_zoo.attacks import Apgd, Pgd
from robnet_zoo.benchmarks import Protocol, Result, evaluate, load_target
from robnet_zoo.benchmarks.result import Bit
from robnet_zoo.core.documents import Document, Tuple, exactly, nearest, shown
from robnet_zoo.data import Images
from robnet_zoo.errors import ArgumentError
from robnet_zoo.genotype import Genotype
from robnet_zoo.training import Recipe, load_recipe, train
from robnet_zoo.training.augmentation import resize
from robnet_zoo.training.loop import RESULT
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import load_spec
from tools import committed

BASE = "base"
ARMS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        BASE: {},
        "smoothing_02": {"objective": {"label_smoothing": 0.2}},
        "smoothing_04": {"objective": {"label_smoothing": 0.4}},
        "unaveraged": {"ema": 0.0},
        "prior": {"attack": {"kind": "fgsm_pgi", "momentum": 0.3, "statistics": "batch"}},
        "prior_tied": {
            "attack": {"kind": "fgsm_pgi", "momentum": 0.3, "statistics": "batch"},
            "objective": {"tie": 1.0},
        },
        "distilled": {"objective": {"distillation": {}}},
        "crop_0": {"augmentation": {"crop": 0}},
        "crop_2": {"augmentation": {"crop": 2}},
        "muon": {"optimizer": "muon", "lr": 0.005, "momentum": 0.95, "weight_decay": 0.01},
        "standard_first": {"standard": 0.2},
        "batch_64": {"batch": 64},
    }
)
SEEDS = (0, 1)
TRAINED, HELD_OUT = slice(0, 11_250), slice(45_000, 46_000)  # of the former, training leaves out a tenth
PIXELS = 24  # a side of all images; the first epochs see fewer
EPOCHS, STAGES = 9, ({"size": 16, "epochs": 6},)
ATTACKS = ("pgd20", "apgd_ce")
PROTOCOL = Protocol(
    name="pilots",
    eps="8/255",
    attacks=(Pgd(steps=20, step="2/255"), Apgd(steps=50)),
    batch=64,
    dtype="float32",
)
app = cyclopts.App(help=__doc__)
DOCUMENT = committed.TRAINING / "pilots" / "fast.json"


class Run(Document):
    """A run of an arm with one seed, measured. correct: by `clean` and each attack, 1 an image that was right."""

    arm: str
    seed: int
    recipe: Recipe
    hours: Annotated[float, Field(ge=0)]
    correct: dict[str, Tuple[Bit]]

    def accuracy(self, attack: str) -> float:
        """Return a share of the images."""
        return float(np.mean(self.correct[attack]))


class PilotsResult(Document):
    """Runs that differ in one part of the recipe. images: how many each trained on. device: on which they ran."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    spec: Genotype
    data: str
    data_sha256: str
    images: int
    protocol: Protocol
    device: str
    software: dict[str, str]
    runs: Tuple[Run]


def network() -> Genotype:
    """Return the first six cells of RobNet-free, with 8 channels, for small images."""
    free = load_spec("robnet_free")
    cells = free.layout[:6]
    return Genotype.parse(
        free.model_dump(mode="json")
        | {
            "name": "robnet_free_narrow",
            "layout": cells,
            "cells": {name: free.cells[name].model_dump(mode="json") for name in cells},
            "network": free.network.model_dump(mode="json")
            | {"channels": 8, "depth": 6, "reductions": [0, 1, 3], "input_size": (3, PIXELS, PIXELS)},
            "provenance": {"source": "the first six cells of robnet_free, 8 channels"},
        }
    )


def smaller(images: Images) -> Images:
    """Return images of PIXELS a side."""
    pixels = resize(images.batch(slice(None))[0], PIXELS)
    return replace(images, pixels=pixels.mul_(255).round_().byte())


def recipe(arm: str, seed: int) -> Recipe:
    """Return the recipe of an arm, a key of ARMS."""
    common = {
        "name": arm,
        "description": "",
        "epochs": EPOCHS,
        "stages": STAGES,
        "attack": {"dtype": "float32"},
        "dtype": "float32",
        "guard": None,
        "validation": 0,
        "seed": seed,
    }
    return load_recipe("fast").overridden(common).overridden(ARMS[arm])


def table(result: PilotsResult) -> str:
    """Return a row for each arm that was run, in Markdown, below a line on all of them.

    An arm stands beside the base of the same seeds.
    """
    runs = {(run.arm, run.seed): run for run in result.runs}
    n = len(result.runs[0].correct["clean"])
    heads = ["recipe", "changed", "minutes", "clean", "PGD-20", "APGD-CE", "APGD-CE against `base`", "by seed"]
    lines = [
        f"{result.spec.name}, {result.images:,} images of {result.data} at {PIXELS} pixels, {n:,} held-out ones, "
        f"eps {result.protocol.eps}; {result.device}",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for arm, changes in ARMS.items():
        seeds = [seed for seed in SEEDS if (arm, seed) in runs and (BASE, seed) in runs]
        if not seeds:
            continue
        own, bases = ([runs[name, seed] for seed in seeds] for name in (arm, BASE))
        means = [f"{100 * np.mean([run.accuracy(attack) for run in own]):.1f}" for attack in ("clean", *ATTACKS)]
        minutes = f"{60 * np.mean([run.hours for run in own]):.0f}"
        changed = ", ".join(_named(changes)) or "–"
        lines.append(f"| `{arm}` | {changed} | {minutes} | {' | '.join(means)} | {' | '.join(_gain(own, bases))} |")
    return "\n".join(lines)


def _named(changes: Mapping[str, Any], before: str = "") -> list[str]:
    """Return the fields that an arm changes, each with its value: `objective.label_smoothing 0.2`."""
    parts: list[str] = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            parts += _named(value, f"{before}{key}.") or [f"`{before}{key}`"]
        else:
            parts.append(f"`{before}{key}` {value}")
    return parts


def _gain(own: Sequence[Run], bases: Sequence[Run]) -> tuple[str, str]:
    """Return by how many points an arm withstands APGD-CE more often, with the interval of the images; and by seed."""
    if own[0].arm == BASE:
        return "–", "–"
    attack = ATTACKS[-1]
    by_seed = np.array(
        [np.subtract(run.correct[attack], base.correct[attack]) for run, base in zip(own, bases, strict=True)]
    )  # (seeds, images)
    by_image = 100 * by_seed.mean(axis=0)
    half = 1.96 * by_image.std(ddof=1) / len(by_image) ** 0.5
    mean = by_image.mean()
    text = f"{mean:+.1f} ({mean - half:+.1f} – {mean + half:+.1f})"
    return text, ", ".join(f"{100 * seed.mean():+.1f}" for seed in by_seed)


@app.default
def measure(*, cifar: Path, work: Path, arms: Sequence[str] = (), document: Path = DOCUMENT) -> None:
    """Run the arms, seed by seed, and save the document behind each.

    Args:
        cifar: cifar10_train.npz.
        work: A folder for the runs; what was begun there is continued.
        arms: Which of them, in this order; all if none is given.
        document: The results; what it has is kept.
    """
    for arm in arms:
        if arm not in ARMS:
            raise ArgumentError(f"arms: unknown arm {shown(arm)}{nearest(arm, ARMS)}")
    images, spec = data.load(cifar, train=True), network()
    training, held_out = smaller(images[TRAINED]), smaller(images[HELD_OUT])
    for seed in SEEDS:
        for arm in arms or ARMS:
            folder = work / f"{arm}.{seed}"
            kept = PilotsResult.load(document).runs if document.is_file() else ()
            if any((run.arm, run.seed) == (arm, seed) for run in kept):
                continue
            train(spec, training, recipe(arm, seed), folder)
            result = evaluate(load_target(folder), held_out, PROTOCOL, output=folder / "robustness.json")
            trained = TrainingResult.load(folder / RESULT)
            run = Run(
                arm=arm,
                seed=seed,
                recipe=trained.recipe,
                hours=trained.epochs[-1].hours,
                correct={attack: result.measurement(attack).correct for attack in ("clean", *ATTACKS)},
            )
            _document(result, trained, spec, (*kept, run)).save(document)
            print(table(PilotsResult.load(document)), flush=True)


def _document(result: Result, trained: TrainingResult, spec: Genotype, runs: Sequence[Run]) -> PilotsResult:
    return PilotsResult(
        spec=spec,
        data=trained.data,
        data_sha256=trained.data_sha256,
        images=trained.images,
        protocol=result.protocol,
        device=result.device,
        software=result.software,
        runs=tuple(runs),
    )


if __name__ == "__main__":
    app()
