"""What a model loses by being shipped as an ONNX file: export each form, and measure it beside the model in torch.

Accuracies are those of results documents, which the harness writes for the model and for every file as for any target.
This module writes the files, and a document of the rest: sizes, latencies, and how far answers are from the model's.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from robnet_zoo.attacks import Classifier
from robnet_zoo.benchmarks.likeness import Gap, compare_targets, without_normalisation
from robnet_zoo.benchmarks.protocol import Count, Sha256
from robnet_zoo.benchmarks.result import EXPORTS, DataIdentity, ModelIdentity, Natural
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.converters import onnx
from robnet_zoo.converters.onnx import ExportOptions, Latency, Precision
from robnet_zoo.core.documents import Document, Tuple, exactly, problems_error
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.files import file_sha256
from robnet_zoo.core.timing import in_turns
from robnet_zoo.data import Images
from robnet_zoo.errors import DataError, TargetError
from robnet_zoo.nn.network import Network

BATCHES = (1, 64)  # whose latency is measured
ROUNDS = 9


class ExportedForm(Document):
    """A model in one of its forms.

    file: the file's name in the folder of the document. bytes: of the file; of torch, those of the tensors of the state
    dict. latencies: medians of rounds in which all forms take turns. logits, gradients, agreement: how far answers are
    from torch's on the images that accuracy is measured on, and the share of them that get torch's class.
    """

    form: Literal["torch", "fp32", "fp16", "int8"]
    model: ModelIdentity
    file: str | None = None
    bytes: Natural
    latencies: Tuple[Latency] = ()
    logits: Gap | None = None
    gradients: Gap | None = None
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None


class ExportsResult(Document):
    """The exports of a model, beside the model itself.

    calibration: sha256 of the images that int8 was calibrated on. rounds: in which latencies were measured. forms: that
    in torch first, each once.
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    model: ModelIdentity
    data: DataIdentity
    calibration: Sha256 | None = None
    rounds: Count
    software: dict[str, str]
    device: str
    forms: Tuple[ExportedForm]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [form.form for form in self.forms]
        if names[:1] != ["torch"] or len(set(names)) < len(names):
            raise problems_error(
                [(("forms",), f"expected torch, then files, each once, got {', '.join(names) or 'none'}")]
            )
        return self


def exports_path(folder: Path, target: Target) -> Path:
    """Return where the document of a model's exports lies in a folder."""
    return folder / f"{_stem(target)}{EXPORTS}"


def write_exports(
    target: Target,
    images: Images,
    folder: Path,
    *,
    precisions: Sequence[Precision],
    calibration: Images | None = None,
    rounds: int = ROUNDS,
    progress: bool = True,
) -> tuple[ExportsResult, list[Target]]:
    """Export a model in several forms, measure all but their accuracies, and return the document and the files.

    The document is saved after each file. The same call continues a run that was stopped, and does not repeat what the
    document holds. Latencies are of batches of 1 and 64 on this machine, with as many threads as torch uses: of the
    model as it is in torch, and of each file as `OnnxClassifier` runs it.

    Args:
        target: a model that was compiled from a spec.
        images: those that accuracies will be measured on.
        folder: for the files and the document, `MODEL.PRECISION.onnx` and `MODEL.exports.json`.
        precisions: of the files.
        calibration: other images, on which int8 finds the ranges of activations.
        rounds: how often latencies are measured.
        progress: whether to show a line on stderr.

    Raises: TargetError for a model that cannot be exported; DataError if the images do not fit, or the folder holds the
        exports of another model.
    """
    network = _network(target)
    if "int8" in precisions and calibration is None:
        raise DataError("expected images to calibrate int8 on, got none")
    path = exports_path(folder, target)
    written = _begun(path, target, images, calibration, rounds)
    forms: dict[str, ExportedForm] = {form.form: form for form in written.forms}
    files: list[Target] = []
    for precision in precisions:
        file = folder / f"{_stem(target)}.{precision}.onnx"
        form = forms.get(precision)
        if form is None or not file.is_file() or file_sha256(file) != form.model.file_sha256:
            _check_replaceable(file, target)
            options = ExportOptions(precision=precision, prove=precision == "fp32")
            onnx.export(network, file, options, images=calibration if precision == "int8" else None)
            forms.pop(precision, None)
        files.append(load_target(file, dtype="float32", device=target.device))
        if precision not in forms:
            forms[precision] = _compared(files[-1], target, images, precision, file)
            written = written.model_copy(update={"forms": tuple(forms.values())})
            written.save(path)
    asked: dict[str, Target] = {"torch": target}
    asked |= zip(precisions, files, strict=True)
    if not all(forms[name].latencies for name in asked):
        latencies = _latencies({name: each.judge for name, each in asked.items()}, target, images, rounds, progress)
        forms |= {name: forms[name].model_copy(update={"latencies": latencies[name]}) for name in asked}
        written = written.model_copy(update={"forms": tuple(forms.values())})
        written.save(path)
    return written, files


def _stem(target: Target) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", target.name)


def _network(target: Target) -> Network:
    """Return the network of a target. Raises TargetError if there is none, or images are normalised before it."""
    network = without_normalisation(target)
    if not isinstance(network, Network):
        expected = "expected a model that was compiled from a spec, which is what can be exported"
        raise TargetError(f"{target.name}: {expected}; `robnet-zoo compare` compares it with files of others")
    if target.identity.mean is not None:
        raise TargetError(f"{target.name}: expected a model that takes images in [0, 1], got one with a normalisation")
    return network


def _begun(path: Path, target: Target, images: Images, calibration: Images | None, rounds: int) -> ExportsResult:
    """Return the document that is there, or one with the model in torch alone. Raises DataError for another run's."""
    tensors = _network(target).state_dict().values()
    fresh = ExportsResult(
        model=target.identity,
        data=DataIdentity(name=images.name, sha256=images.sha256, n=len(images), classes=tuple(images.classes)),
        calibration=None if calibration is None else calibration.sha256,
        rounds=rounds,
        software=software(),
        device=device(target.device),
        forms=(
            ExportedForm(
                form="torch",
                model=target.identity,
                bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            ),
        ),
    )
    if not path.exists():
        return fresh
    written = ExportsResult.load(path)
    if written.calibration is None or calibration is None:  # int8 is new, or not asked for again
        known = {"calibration": written.calibration or fresh.calibration}
        written, fresh = written.model_copy(update=known), fresh.model_copy(update=known)
    if written.model_copy(update={"forms": fresh.forms}) != fresh:
        got = "got that of another model, data, calibration, device or version"
        raise DataError(f"{path}: expected no file or the document of these exports, {got}")
    return written


def _check_replaceable(file: Path, target: Target) -> None:
    """Raise DataError if a file is there that is not an export of this model."""
    if not file.exists():
        return
    metadata = onnx.read_file(file).metadata
    if metadata.get("state_sha256") != target.identity.state_sha256:
        raise DataError(f"{file}: expected no file or an export of {target.name}, got a file of another model")


def _compared(file: Target, target: Target, images: Images, precision: Precision, path: Path) -> ExportedForm:
    likeness = compare_targets(target, file, images, look_inside=False)
    return ExportedForm(
        form=precision,
        model=file.identity,
        file=path.name,
        bytes=path.stat().st_size,
        logits=likeness.logits,
        gradients=likeness.gradients,
        agreement=likeness.agreement,
    )


def _latencies(
    judges: Mapping[str, Classifier], target: Target, images: Images, rounds: int, progress: bool
) -> dict[str, tuple[Latency, ...]]:
    """Return the median milliseconds of each form at each batch, measured in turns."""
    batches = {size: images.batch(torch.arange(size) % len(images))[0].to(target.device) for size in BATCHES}
    work: dict[tuple[str, int], Callable[[], object]] = {
        (name, size): partial(_answered, judge, shown)
        for name, judge in judges.items()
        for size, shown in batches.items()
    }
    seconds = in_turns(work, rounds=rounds, progress=progress)
    return {
        name: tuple(
            Latency(
                batch=size,
                milliseconds=round(1000 * statistics.median(seconds[name, size]), 3),
                threads=torch.get_num_threads(),
            )
            for size in BATCHES
        )
        for name in judges
    }


@torch.no_grad()
def _answered(judge: Classifier, images: Tensor) -> None:
    judge(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
