"""Put trained weights into the package, measured: `python -m robnet_zoo.benchmarks.bundle --help`.

For whoever releases weights. What was measured goes to `results/MODEL.TAG.json`, what trained them to
`results/MODEL.TAG.training.json` (and `training.2.json`, if a second run began with the weights of the first), the
weights and their manifest entry to `robnet_zoo/weights`; `python -m robnet_zoo.docs` then writes their model card.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import Tensor

from robnet_zoo import data, weights
from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.result import RESULTS
from robnet_zoo.benchmarks.robustness import evaluate
from robnet_zoo.benchmarks.targets import load_target
from robnet_zoo.documents import write_atomically
from robnet_zoo.training.loop import CHOSEN, MODEL, TRAINED
from robnet_zoo.training.trained import Trained
from robnet_zoo.zoo import load_spec, read_weights


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
    """Measure the weights that a training run left, or has come to, and bundle them as `model.tag`.

    Parameters
    ----------
    model
        The name of a bundled spec.
    tag
        What timm calls these weights, behind the dot.
    run
        The training run's folder.
    images
        Test images, as `robnet-zoo benchmark --data` takes them; never those of the training.
    protocol
        What they are measured by; FGSM and PGD-20 have to be in it.
    eps
        The attacks' radius.
    half
        Store kernels in float16, and measure them so; statistics and biases stay in float32.
    folder
        Of the weights and their manifest.
    results
        The folder of the documents.
    """
    spec, trained = load_spec(model), Trained.load(run / TRAINED)
    given, source = run / (MODEL if trained.over else CHOSEN), run / "bundled.safetensors"
    write_atomically(source, safetensors.torch.save(stored(read_weights(given), half=half)))
    tests = data.load(images)
    measured_by = load_protocol(protocol).model_copy(update={"eps": eps})
    target = load_target(model, weights=source)
    named = replace(target, identity=target.identity.model_copy(update={"name": f"{model}.{tag}"}))
    result = evaluate(named, tests, measured_by)
    result = result.model_copy(update={"examples": ()})  # no picture of a data set goes into the package
    entry = weights.Entry(
        model=model,
        tag=tag,
        file=f"{model}.{tag}.safetensors",
        sha256=weights.sha256(source),
        spec_hash=spec.hash,
        recipe=trained.recipe.name,
        measured=weights.Measured(
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
    known = weights.manifest(folder).entries
    before = next((other for other in known if (other.model, other.tag) == (model, tag)), None)
    runs = training_runs(model, tag, results=results)
    if before is None or trained.begun_with is None or trained.begun_with.sha256 != before.sha256:
        for path in runs:
            path.unlink()
        runs = []
    trained.save(results / f"{model}.{tag}.{_numbered(len(runs) + 1)}.json")
    result.save(results / f"{model}.{tag}.json")
    write_atomically(folder / entry.file, source.read_bytes())
    entries = sorted([entry, *(other for other in known if other is not before)], key=lambda one: (one.model, one.tag))
    weights.Manifest(entries=tuple(entries)).save(folder / weights.MANIFEST)


def training_runs(model: str, tag: str, *, results: Path = RESULTS) -> list[Path]:
    """The documents of the runs that trained bundled weights, in their order; none for those that are older."""
    found = (results / f"{model}.{tag}.{_numbered(number)}.json" for number in itertools.count(1))
    return list(itertools.takewhile(Path.is_file, found))


def _numbered(run: int) -> str:
    return "training" if run == 1 else f"training.{run}"


def stored(state: Mapping[str, Tensor], *, half: bool) -> dict[str, Tensor]:
    """A state dict as it goes into the package: with `half`, kernels in float16."""
    return {key: value.half() if half and value.ndim > 1 else value for key, value in state.items()}


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(bundle)
