"""ONNX Runtime beside torch, images a second, in one run: `python -m robnet_zoo.benchmarks.speed.onnx`.

The forms take turns, round after round, so that a drift of the machine's speed reaches them all; a figure is the
median of the rounds. torch runs the naive and the inference form of a spec in float32, eagerly; ONNX Runtime the files
that `robnet_zoo.converters.onnx` exports, through its OnnxClassifier, with as many threads. All compute logits without
gradients. int8 is calibrated on random images: it computes as fast as on others.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter
from pydantic import Field
from torch import Tensor

from robnet_zoo.benchmarks.speed.forms import forward, with_statistics
from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.converters.onnx import ExportOptions, OnnxClassifier, export
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.timing import in_turns
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile, for_inference
from robnet_zoo.nn.network import Network

BATCHES = (1, 8, 64)
CALIBRATION = 32  # random images
NAIVE, FP32, INT8 = "torch, naive", "ONNX Runtime fp32", "ONNX Runtime int8"


class OnnxSpeed(Document):
    """One form at one batch."""

    form: str
    batch: int
    images_per_second: float
    to_naive: Annotated[float, Field(description="ratio to the naive form in torch, same batch")]
    to_fp32: Annotated[float, Field(description="ratio to the fp32 file in ONNX Runtime, same batch")]


class Written(Document):
    """One exported file, and how long its export took. proved: whether its logits were compared with torch's in it."""

    precision: str
    seconds: float
    bytes: int
    proved: bool


class OnnxSpeedResult(Document):
    """A results document of this benchmark."""

    schema_version: Annotated[int, exactly(1)] = 1
    spec: str
    spec_hash: str
    rounds: int
    device: str
    software: dict[str, str]
    files: Tuple[Written]
    rows: Tuple[OnnxSpeed]


Form = Callable[[Tensor], object]


def measure(spec: Genotype, *, batches: Sequence[int] = BATCHES, rounds: int = 9) -> OnnxSpeedResult:
    """Export a spec in each precision, and time its forms on this machine's CPU.

    Args:
        spec: the architecture.
        batches: each a number of images at once.
        rounds: how often each form is timed.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(CALIBRATION, *spec.network.input_size, generator=generator)
    network = with_statistics(compile(spec), images)
    with tempfile.TemporaryDirectory() as folder:
        files, sessions = _exported(network, images, Path(folder))
    forms: dict[str, Form] = {
        NAIVE: partial(forward, naive(copy.deepcopy(network), spec)),
        "torch, inference form": partial(forward, for_inference(network)),
    } | sessions
    inputs = {batch: torch.rand(batch, *spec.network.input_size, generator=generator) for batch in batches}
    cases = {(form, batch): partial(forms[form], inputs[batch]) for form in forms for batch in batches}
    times = in_turns(cases, rounds=rounds)
    speeds = {(form, batch): batch / statistics.median(seconds) for (form, batch), seconds in times.items()}
    return OnnxSpeedResult(
        spec=spec.name,
        spec_hash=spec.hash,
        rounds=rounds,
        device=device(),
        software=software(),
        files=tuple(files),
        rows=tuple(
            OnnxSpeed(
                form=form,
                batch=batch,
                images_per_second=round(speed, 2),
                to_naive=round(speed / speeds[NAIVE, batch], 2),
                to_fp32=round(speed / speeds[FP32, batch], 2),
            )
            for (form, batch), speed in speeds.items()
        ),
    )


def _exported(network: Network, images: Tensor, folder: Path) -> tuple[list[Written], dict[str, Form]]:
    """Return the files of a network, each as a classifier; fp32 with its proof, as an export is by default."""
    pixels = images.mul(255).round().byte()
    calibration = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), "random images")
    files: list[Written] = []
    sessions: dict[str, Form] = {}
    for form, options in (
        (FP32, ExportOptions()),
        (INT8, ExportOptions(precision="int8", calibration=CALIBRATION, prove=False)),
    ):
        path = folder / f"{options.precision}.onnx"
        started = time.perf_counter()
        report = export(network, path, options, images=calibration)
        seconds = round(time.perf_counter() - started, 2)
        files.append(
            Written(precision=options.precision, seconds=seconds, bytes=report.bytes, proved=bool(report.comparisons))
        )
        sessions[form] = OnnxClassifier(path, provider="cpu")
    return files, sessions


def table(result: OnnxSpeedResult) -> str:
    """Return the result as a Markdown table.

    Cells are images a second, and in brackets the ratio to the naive form at that batch.
    """
    batches = list(dict.fromkeys(row.batch for row in result.rows))
    cells = {(row.form, row.batch): f"{row.images_per_second:.1f} ({row.to_naive:.2f}x)" for row in result.rows}
    lines = [
        f"{result.spec}, {result.device}, median of {counted(result.rounds, 'round')}",
        "",
        f"| form | {' | '.join(f'batch {batch}' for batch in batches)} |",
        "|---" * (1 + len(batches)) + "|",
    ]
    lines += [
        f"| {form} | {' | '.join(cells[form, batch] for batch in batches)} |"
        for form in dict.fromkeys(row.form for row in result.rows)
    ]
    int8 = ", ".join(f"{row.to_fp32:.2f}x at batch {row.batch}" for row in result.rows if row.form == INT8)
    files = ", ".join(
        f"{file.precision} {file.bytes / 1e6:.1f} MB in {file.seconds:.1f} s{'' if file.proved else ' (not proved)'}"
        for file in result.files
    )
    return "\n".join([*lines, "", f"int8 against fp32: {int8}. Exports: {files}."])


def main(
    spec: str = "robnet_free",
    *,
    batches: Annotated[tuple[int, ...], Parameter(negative=())] = BATCHES,
    rounds: int = 9,
    output: Path | None = None,
) -> None:
    """Time the forms of a spec and print the table.

    Args:
        spec: A bundled spec or the path of one.
        batches: Images at once, one number or several.
        rounds: How often each form is timed.
        output: Where the results document is saved, if anywhere.
    """
    result = measure(load_spec(spec), batches=batches, rounds=rounds)
    print(table(result))
    if output is not None:
        result.save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
