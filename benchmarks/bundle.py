"""Put trained weights into the package, measured: `python -m robnet_zoo.benchmarks.bundle --help`.

For whoever releases weights. The results document goes to `results/MODEL.TAG.json`, the weights and their manifest
entry to `robnet_zoo/weights`.
"""

from __future__ import annotations

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
from robnet_zoo.documents import parse_json, read_bytes, write_atomically
from robnet_zoo.training import Recipe
from robnet_zoo.zoo import load_spec, read_weights


def bundle(model: str, tag: str, *, run: Path, images: str, eps: str = "8/255", half: bool = False) -> None:
    """Measure the weights that a training run left, and bundle them as `model.tag`.

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
    eps
        The attacks' radius.
    half
        Store kernels in float16, and measure them so; statistics and biases stay in float32.
    """
    spec = load_spec(model)
    source = run / "bundled.safetensors"
    write_atomically(source, safetensors.torch.save(stored(read_weights(run / "model.safetensors"), half=half)))
    tests = data.load(images)
    protocol = load_protocol("white_box").model_copy(update={"eps": eps})
    recipe = Recipe.parse(parse_json(read_bytes(run / "run.json"), source=str(run))["recipe"])
    target = load_target(model, weights=source)
    named = replace(target, identity=target.identity.model_copy(update={"name": f"{model}.{tag}"}))
    result = evaluate(named, tests, protocol)
    result = result.model_copy(update={"examples": ()})  # no picture of a data set goes into the package
    entry = weights.Entry(
        model=model,
        tag=tag,
        file=f"{model}.{tag}.safetensors",
        sha256=weights.sha256(source),
        spec_hash=spec.hash,
        recipe=recipe.name,
        measured=weights.Measured(
            data=result.data.name,
            data_sha256=result.data.sha256,
            n=result.data.n,
            seed=protocol.seed,
            eps=eps,
            clean=result.accuracy("clean"),
            fgsm=result.accuracy("fgsm"),
            pgd20=result.accuracy("pgd20"),
            device=result.device,
        ),
    )
    result.save(RESULTS / f"{model}.{tag}.json")
    write_atomically(weights.FOLDER / entry.file, source.read_bytes())
    others = [other for other in weights.manifest().entries if (other.model, other.tag) != (model, tag)]
    ordered = sorted([*others, entry], key=lambda entry: (entry.model, entry.tag))
    weights.Manifest(entries=tuple(ordered)).save(weights.FOLDER / "manifest.json")


def stored(state: Mapping[str, Tensor], *, half: bool) -> dict[str, Tensor]:
    """A state dict as it goes into the package: with `half`, kernels in float16."""
    return {key: value.half() if half and value.ndim > 1 else value for key, value in state.items()}


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(bundle)
