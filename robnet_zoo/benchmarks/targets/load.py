"""A target by the name that a user gives it: a file, a folder, a spec, or a model of timm or RobustBench."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import timm
import torch
from torch import nn

from robnet_zoo.benchmarks.targets.robustbench import robustbench_model
from robnet_zoo.benchmarks.targets.target import Target, normalisation_from
from robnet_zoo.benchmarks.targets.torch import (
    frozen_target,
    own_normalisation,
    timm_model,
    trained_model,
    weights_file,
)
from robnet_zoo.core.documents import fspath, nearest
from robnet_zoo.core.precision import Arithmetic, resolve_dtype
from robnet_zoo.errors import DocumentError, OnnxFileError, TargetError, WeightsError
from robnet_zoo.genotype.specs import LOCAL, spec_names
from robnet_zoo.nn.network import Network
from robnet_zoo.zoo import registry as zoo


class Loader(NamedTuple):
    """The way to load models whose names have some prefix.

    load: gives the model of a whole name, with other weights if a file of them is given. normalised: whether the models
    take normalised images, by their own configuration.
    """

    load: Callable[[str, Path | None], nn.Module]
    normalised: bool


TIMM = Loader(timm_model, normalised=True)
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
PREFIXES: Mapping[str, Loader] = MappingProxyType(
    {
        "robustbench:": Loader(robustbench_model, normalised=False),
        LOCAL: TIMM,
        "hf-hub:": TIMM,
        "hf_hub:": TIMM,
    }
)


def load_target(
    name: str | os.PathLike[str],
    *,
    weights: Path | None = None,
    dtype: Arithmetic = "bfloat16",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> Target:
    """Return a trained classifier by the name that a user gives it.

    Args:
        name: it can be

            - an ONNX file, `FILE.onnx`, or `FILE.onnx:OUTPUT` if several of its outputs could be logits: ONNX Runtime
              judges. For a file of ours the proposer is the model that its metadata and weights give, in float32 (for
              fp16 and int8, its twin); for a foreign file it is the graph, rebuilt in torch;
            - a name of timm (`name`, `name.tag`, `local-dir:FOLDER` or `hf-hub:REPOSITORY`), with its own weights or
              with `weights`. The proposer of a model that was not compiled from a spec is its traced form
              (`robnet_zoo.nn.forms.traced`), or itself if it has none;
            - the name or the path of a spec, with `weights`;
            - `robustbench:NAME` or `robustbench:DATASET/THREAT/NAME` (by default cifar10/Linf), a model of
              RobustBench's leaderboard. RobustBench's package fetches and opens the weights;
            - a folder with `model.safetensors` and either `spec.json` or `model.json`, as training leaves it, or
              `config.json`, as timm leaves it.
        weights: a safetensors file.
        dtype: the arithmetic of the proposer (see `robnet_zoo.core.precision`). Under a protocol in float32 a proposer
            in bfloat16 is replaced by one in float32.
        mean, std: a number for each channel. Images, which are in [0, 1], are normalised with them inside the target.
            By default timm's configuration says so; models compiled from a spec and ONNX files take [0, 1] as it is.
        device: where judge and proposer compute and want their images; by default CUDA if there is one. ONNX Runtime
            then judges there too if it can, and must if `device` is given.

    Raises: TargetError.
    """
    name = fspath(name, "the name of a model or a folder", error=TargetError)
    if not name:
        raise TargetError("expected the name of a model or a folder, got an empty text")
    computed_on = torch.device(device or _default_device())
    normalisation = normalisation_from(name, mean, std)
    try:
        if (onnx_file := _onnx_file(name)) is not None:
            if weights is not None:
                raise TargetError(f"{name}: an ONNX file brings its own weights, expected no others, got {weights}")
            from robnet_zoo.benchmarks.targets.onnx import onnx_target  # imports onnx and onnxruntime

            path, output = onnx_file
            return onnx_target(
                path,
                normalisation,
                computed_on,
                strict=device is not None,
                dtype=resolve_dtype(dtype, computed_on),
                output=output,
            )
        full = zoo.full_name(name)
        name_of_model, loader = _resolved(name, weights)
        model = loader.load(name_of_model, weights).eval()
    except (WeightsError, DocumentError, OnnxFileError) as error:
        raise TargetError(str(error)) from error
    if normalisation is None and loader.normalised and not isinstance(model, Network):
        normalisation = own_normalisation(name, model)
    file = weights_file(name_of_model, weights, model)
    called = full if weights is None else name  # the weights that timm takes depend on its version
    return frozen_target(model.to(computed_on), called, normalisation, dtype=dtype, file=file)


def _onnx_file(name: str) -> tuple[Path, str | None] | None:
    """Return the path in `FILE.onnx` or `FILE.onnx:OUTPUT`, and the output, or None for any other name."""
    match = re.fullmatch(r"(.+?\.onnx)(?::(.+))?", name, re.IGNORECASE | re.DOTALL)
    if match is None:
        return None
    return (Path(match[1]), match[2]) if not os.path.exists(name) else (Path(name), None)


def _default_device() -> str:
    """Return the accelerator of this process, if there is one: under torchrun each process has its own."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _resolved(name: str, weights: Path | None) -> tuple[str, Loader]:
    """Return the name by which a model is loaded, and where it comes from.

    The name of a model takes precedence over a folder that is called the same, which `full_name` has mentioned.
    """
    if (folder := zoo.run_folder(name)) is not None:
        return str(folder), Loader(trained_model, normalised=True)
    for prefix, loader in PREFIXES.items():
        if name.startswith(prefix):
            return name, loader
    path = Path(name)
    if os.path.isdir(path) and not zoo.is_known(name):
        if not os.path.isfile(path / zoo.CONFIG):
            documents = "spec.json, model.json or config.json"
            raise TargetError(f"{name}: expected a folder with model.safetensors and {documents}")
        return f"{LOCAL}{name}", TIMM
    if path.suffix.lower() == ".json" and weights is None:
        raise TargetError(f"{name}: expected weights for this spec: give a safetensors file")
    if weights is not None and (path.suffix.lower() == ".json" or name in spec_names()):
        return name, Loader(lambda spec, file: zoo.load_model(spec, weights=file), normalised=False)
    if not timm.is_model(name):
        if (in_python := _in_python(name)) is not None:
            raise TargetError(f"{name}: {in_python}")
        known = sorted({*zoo.tagged_names(), *zoo.default_cfgs, *spec_names()})
        near = nearest(name, [*known, *timm.list_models()])
        raise TargetError(f"{name}: neither an ONNX file, nor a folder, nor a spec, nor a model of timm{near}")
    return name, TIMM


def _in_python(name: str) -> str | None:
    """Return how a torch module is measured instead, if a name means one; None if it does not.

    A name alone starts no code of others, which a Python file and a pickle are.
    """
    stem, _, attribute = name.rpartition(":") if re.search(r":[A-Za-z_]\w*$", name) else (name, "", "")
    suffix = Path(stem).suffix.lower()
    if suffix in PICKLES:
        module, got = "your_code", "a file that torch would unpickle"
    elif suffix == ".py" or (attribute and os.path.isfile(f"{stem}.py")):
        module, got = Path(stem).name.removesuffix(".py"), "Python"
    else:
        return None
    model = attribute or "your_model"
    lines = (
        f"from {module} import {model}",
        "from robnet_zoo import benchmarks as b, data",
        f'print(b.evaluate(b.of_module({model}(), name="{model}"), data.load("DATA"), b.load_protocol("quick")))',
    )
    return f"expected an ONNX file or a name, got {got}, which is not run from here; in Python: {'; '.join(lines)}"
