"""Put trained weights into the package, measured: `python -m tools.bundle --help`.

For maintainers who release weights. What was measured goes to `results/robustness/MODEL.TAG.json`, what trained them to
`results/training/MODEL.TAG.json` (and `MODEL.TAG.2.json`, if a second run began with the weights of the first), the
weights and their manifest entry to `robnet_zoo/zoo/weights`. `python -m tools.docs` then writes their model card from
these documents and from all other results documents called `results/robustness/MODEL.TAG.*.json`, such as
`MODEL.TAG.autoattack.json`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import Tensor

from robnet_zoo import data
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.core.files import file_sha256, write_atomically
from robnet_zoo.errors import BundleError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.training.loop import CHOSEN, MODEL, RESULT
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import read_weights
from tools.committed import RESULTS, without_pictures

STATED = {"fgsm", "pgd20"}  # accuracies that the manifest has, besides the clean one


def bundle(
    model: str,
    tag: str,
    *,
    run: Path,
    images: str,
    protocol: str = "white_box",
    eps: str = "8/255",
    half: bool = False,
    folder: Path = weights.FOLDER,
    results: Path = RESULTS,
) -> None:
    """Measure the weights that a training run gives, or would give now, and bundle them as `model.tag`.

    Args:
        model: The name of a bundled spec.
        tag: What timm calls these weights, behind the dot.
        run: The training run's folder.
        images: Test images, as `robnet-zoo benchmark --data` takes them; never those of the training.
        protocol: How they are measured; FGSM and PGD-20 have to be in it.
        eps: The attacks' radius.
        half: Store kernels in float16, and measure them so; statistics and biases stay in float32.
        folder: Of the weights and their manifest.
        results: The folder of the documents, with a folder a kind below it.
    """
    run_result, measured_by = TrainingResult.load(run / RESULT), load_protocol(protocol).model_copy(update={"eps": eps})
    missing = STATED - {attack.title for attack in measured_by.attacks}
    if missing:
        raise BundleError(f"{protocol}: expected a protocol with {' and '.join(sorted(missing))}")
    entries = {(entry.model, entry.tag): entry for entry in weights.manifest(folder).entries}
    before = entries.get((model, tag))
    origin = run_result.begun_with
    if not run_result.over and before is not None and origin is not None and origin.file_sha256 == before.file_sha256:
        raise BundleError(
            f"{run}: expected a run that is over, as it could not continue without the weights to be replaced"
        )
    source = run / "bundled.safetensors"
    write_atomically(source, safetensors.torch.save(stored(_given(run, run_result), half=half)))
    target = load_target(model, weights=source)
    named = replace(target, identity=target.identity.model_copy(update={"name": f"{model}.{tag}"}))
    result = evaluate(named, data.load(images), measured_by)
    entry = weights.WeightsEntry(
        model=model,
        tag=tag,
        file=f"{model}.{tag}.safetensors",
        file_sha256=file_sha256(source),
        state_sha256=target.identity.state_sha256,
        training_file_sha256=run_result.file_sha256,
        spec_hash=load_spec(model).hash,
        recipe=run_result.recipe.name,
        trained_on=run_result.data_sha256,
        classes=result.data.classes or _classes(run_result.data_sha256, before, entries.values()),
        measured=weights.MeasuredAccuracies(
            data=result.data.name,
            data_sha256=result.data.sha256,
            n=result.data.n,
            seed=measured_by.seed,
            eps=eps,
            clean=result.accuracy("clean"),
            fgsm=result.accuracy("fgsm"),
            pgd20=result.accuracy("pgd20"),
            device=result.device,
        ),
    )
    _keep(run_result, model, tag, before, results)
    without_pictures(result).save(results / "robustness" / f"{model}.{tag}.json")
    write_atomically(folder / entry.file, source.read_bytes())
    entries[model, tag] = entry
    weights.Manifest(entries=tuple(entries[name] for name in sorted(entries))).save(folder / weights.MANIFEST)


def _classes(
    trained_on: str, before: weights.WeightsEntry | None, entries: Iterable[weights.WeightsEntry]
) -> tuple[str, ...]:
    """Return the names of the classes by other weights of these images, as an npz may not have them."""
    named = [entry.classes for entry in entries if entry.trained_on == trained_on and entry.classes]
    return named[0] if named else before.classes if before else ()


def _given(run: Path, result: TrainingResult) -> dict[str, Tensor]:
    """Return the weights that a run gives, or would give now.

    Raises: BundleError if the run's document is of other weights.
    """
    path = run / CHOSEN if (run / CHOSEN).exists() else run / MODEL
    if file_sha256(path) != result.file_sha256:
        raise BundleError(f"{path}: expected the weights that {RESULT} names; start the run again, to its next epoch")
    return read_weights(path)


def _keep(run: TrainingResult, model: str, tag: str, before: weights.WeightsEntry | None, results: Path) -> None:
    """Save the run behind those whose weights it continues, and delete the documents of runs that it replaces."""
    paths = training_runs(model, tag, results=results)
    runs = [TrainingResult.load(path) for path in paths]
    known = next((position for position, other in enumerate(runs) if other.is_of(run)), None)
    origin = run.begun_with
    if known is not None:  # an earlier milestone of this run
        position = known
    elif origin and runs and origin.file_sha256 in (runs[-1].file_sha256, before and before.file_sha256):
        position = len(runs)
    else:
        position = 0
    run.save(_training_document(model, tag, position + 1, results=results))
    for path in paths[position + 1 :]:
        path.unlink()


def training_runs(model: str, tag: str, *, results: Path = RESULTS) -> list[Path]:
    """Return the documents of the runs that trained bundled weights, in order; older weights have none.

    Args:
        model: the name of a bundled spec.
        tag: of the weights.
        results: the folder of the documents.
    """
    paths = (_training_document(model, tag, number, results=results) for number in itertools.count(1))
    return list(itertools.takewhile(Path.is_file, paths))


def lineage(
    entry: weights.WeightsEntry, entries: Sequence[weights.WeightsEntry], *, results: Path = RESULTS
) -> list[Path]:
    """Return the documents of all runs behind bundled weights, in order.

    Where the first of them began with other bundled weights, the runs behind those come before it.

    Args:
        entry: of the weights.
        entries: of the manifest.
        results: the folder of the documents.
    """
    paths = training_runs(entry.model, entry.tag, results=results)
    origin = TrainingResult.load(paths[0]).begun_with if paths else None
    others = [other for other in entries if origin is not None and other.file_sha256 == origin.file_sha256]
    return [path for other in others[:1] for path in lineage(other, entries, results=results)] + paths


def _training_document(model: str, tag: str, number: int, *, results: Path) -> Path:
    """Return the file of the run with this number, from 1, among those that trained some bundled weights."""
    suffix = "" if number == 1 else f".{number}"
    return results / "training" / f"{model}.{tag}{suffix}.json"


def stored(state: Mapping[str, Tensor], *, half: bool) -> dict[str, Tensor]:
    """Return a state dict as it is put into the package: with `half`, kernels in float16."""
    return {key: value.half() if half and value.ndim > 1 else value for key, value in state.items()}


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(bundle)
