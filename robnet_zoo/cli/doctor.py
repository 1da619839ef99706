"""`robnet-zoo doctor`: what the package depends on here, to be pasted into a bug report."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from importlib.metadata import distributions
from typing import Any

from robnet_zoo.cli.parameters import Json
from robnet_zoo.cli.starting import starting
from robnet_zoo.core.documents import Document
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.threads import CHOICES
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import RobnetZooError

MODULES = (
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
    "safetensors",
    "scipy",
    "optuna",
    "matplotlib",
)
LEAST_DISK = 1e9  # bytes: checkpoints of a network of 20 cells, twice over
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")  # two packages of the same files
COUNTS = re.compile(r"\s*\+?0*[1-9]\d*\s*(,.*)?")  # what OpenMP takes as numbers of threads, one for each level


class Diagnosis(Document):
    """What is here, by name, and what is wrong with it."""

    facts: dict[str, str]
    problems: tuple[str, ...]


def doctor(*, as_json: Json = False) -> None:
    """Look at what the package depends on here, and exit with code 2 if something is wrong.

    The output belongs in a bug report: versions, devices, threads, disk, and whether bundled weights are undamaged.
    """
    with starting():
        result = diagnosis()
    if as_json:
        print(json.dumps(result.model_dump(mode="json"), indent=1))
    else:
        width = max(map(len, result.facts))
        print(*(f"{name:{width}}  {text}" for name, text in result.facts.items()), sep="\n")
        print("\n".join(f"PROBLEM: {problem}" for problem in result.problems) or "no problems")
    if result.problems:
        sys.exit(2)


def diagnosis() -> Diagnosis:
    """Return what is here and what is wrong with it."""
    problems = [*_import_problems(), *_runtime_problems(), *_thread_problems()]
    facts = {**{name.replace("_", "-"): text for name, text in software().items()}, "system": platform.platform()}
    if not any(problem.startswith("torch:") for problem in problems):
        facts |= _devices()
    facts["openmp"] = _waiting()
    for name, where in (("disk here", os.getcwd), ("disk for temporary files", tempfile.gettempdir)):
        try:
            folder = where()
            free = shutil.disk_usage(folder).free
        except OSError as error:  # a folder that was deleted, or none that can be written
            problems.append(f"{name}: expected a folder, got {error}")
            continue
        facts[name] = f"{free / 1e9:.1f} GB free"
        if free < LEAST_DISK:
            problems.append(f"{folder}: expected at least {LEAST_DISK / 1e9:.0f} GB free, got {free / 1e9:.1f}")
    try:
        damaged, count = _damaged_weights()
        facts["bundled weights"] = f"{count - len(damaged)} of {count} are undamaged"
    except RobnetZooError as error:  # of the manifest itself
        damaged = [f"{error}; reinstall"]
    return Diagnosis(facts=facts, problems=(*problems, *damaged))


def _devices() -> dict[str, str]:
    """Return the devices that networks and exported files run on."""
    import torch

    from robnet_zoo.core.precision import has_bfloat16

    cuda = [device(f"cuda:{index}") for index in range(torch.cuda.device_count())]
    facts: dict[str, str] = {
        "processor": f"{device()}; {counted(os.cpu_count() or 1, 'core')}",
        "bfloat16": "computed" if has_bfloat16() else "float32 takes its place, as this processor would emulate it",
        "gpus": ", ".join(cuda) or "none that torch can use",
    }
    try:
        import onnxruntime
    except Exception:  # whatever a broken installation raises is among the problems
        return facts
    providers: list[Any] = onnxruntime.get_available_providers()
    return facts | {"onnx runtime on": ", ".join(providers)}


def _waiting() -> str:
    """Return how threads of OpenMP are told to wait for each other."""
    chosen = {name: os.environ[name] for name in CHOICES if name in os.environ}
    text = ", ".join(f"{name}={value}" for name, value in chosen.items()) or "as it is"
    values = (chosen.get(name, "").strip().lower() for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))
    if any(value in ("active", "infinite", "infinity") for value in values):
        text += "; threads that wait hold their core, so that beside other work all takes many times as long"
    return text


def _thread_problems() -> list[str]:
    """Return a line if OpenMP does not take the number of threads that it is given."""
    given = os.environ.get("OMP_NUM_THREADS")
    if given is None or COUNTS.fullmatch(given):
        return []
    return [f"OMP_NUM_THREADS: expected a number of threads, 1 or more, got {given!r}, which is ignored"]


def _import_problems() -> list[str]:
    """Return a line for each package that cannot be imported."""
    problems = []
    for name in MODULES:
        try:
            __import__(name)
        except Exception as error:  # a broken installation raises anything
            problems.append(f"{name}: expected a package that can be imported, got {type(error).__name__}: {error}")
    return problems


def _runtime_problems() -> list[str]:
    """Return a line if both packages of ONNX Runtime are installed: the later one has overwritten the other."""
    names = {(distribution.metadata["Name"] or "").lower() for distribution in distributions()}
    both = [name for name in RUNTIMES if name in names]
    if len(both) < len(RUNTIMES):
        return []
    return [
        f"expected one of {' and '.join(both)}, got both, which hold the same files: uninstall both, then install one"
    ]


def _damaged_weights() -> tuple[list[str], int]:
    """Return a line for each bundled weights file that is not as its manifest says, and how many there are."""
    from robnet_zoo.genotype.specs import SPECS
    from robnet_zoo.zoo import weights

    entries = weights.manifest().entries
    problems = []
    for entry in entries:
        try:
            weights.check(entry, SPECS.own(entry.model))
        except RobnetZooError as error:
            problems.append(str(error))
    return problems, len(entries)
