"""Torch modules as targets: models of timm, of a spec or of a training run, and any module at hand."""

from __future__ import annotations

import copy
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from pickle import PicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from robnet_zoo.benchmarks.result import ModelIdentity
from robnet_zoo.benchmarks.targets.output import Logits
from robnet_zoo.benchmarks.targets.target import Normalisation, Normalised, Target, normalisation_from
from robnet_zoo.core.documents import parse_json, read_bytes
from robnet_zoo.core.files import file_sha256
from robnet_zoo.core.precision import Arithmetic, resolve_dtype
from robnet_zoo.errors import ModelError, TargetError, WeightsError, printable
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.forms.traced import Traced
from robnet_zoo.nn.network import Network
from robnet_zoo.zoo import registry as zoo
from robnet_zoo.zoo.architecture import build, from_run
from robnet_zoo.zoo.hub import one_try
from robnet_zoo.zoo.weights import FOLDER, entry_of, state_sha256

MANGLED = re.compile(rb"___torch_mangle_\d+")  # by which torch tells the classes of a process apart
COPYING_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, PicklingError)
LOADING_ERRORS = (RuntimeError, ValueError, AssertionError, OSError, KeyError, TypeError, SafetensorError)


def of_module(
    model: nn.Module,
    *,
    name: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    num_classes: int | None = None,
    dtype: Arithmetic = "bfloat16",
) -> Target:
    """Return a target for any classifier of images in [0, 1] or, with mean and std, of images normalised with these.

    The target is a deep copy in float32 and eval mode, on the model's device, whose parameters want no gradients. The
    model's own mode and parameters stay as they are, and later training does not change what is measured.

    Args:
        model: gives logits (N, K), or something with them in it (see `robnet_zoo.benchmarks.targets.output`). It may be
            a TorchScript module, and need not have gradients.
        name: what results call it.
        mean, std: a number for each channel.
        num_classes: by default the model's attribute of this name, if it has one.
        dtype: as in `load_target`.

    Raises: TargetError if the model cannot be copied.
    """
    normalisation = normalisation_from(name, mean, std)
    if not isinstance(model, nn.Module):
        raise TargetError(f"{name}: expected a torch module, got {type(model).__name__}")
    try:
        frozen = _copied(model)
    except COPYING_ERRORS as error:
        raise TargetError(f"{name}: expected a model that can be copied, got: {error}") from error
    return frozen_target(frozen, name, normalisation, dtype=dtype, num_classes=num_classes)


def frozen_target(
    model: nn.Module,
    name: str,
    normalisation: Normalisation | None,
    *,
    dtype: Arithmetic,
    num_classes: int | None = None,
    file: Path | None = None,
) -> Target:
    """Return a target around a model that nobody else holds: the model is changed in place.

    Args:
        normalisation: what the model normalises its inputs with, or None if it takes images in [0, 1].
        dtype: the arithmetic of the proposer.
        num_classes: by default the model's attribute of this name, if it has one.
        file: the weights were read from it, if there is such a file.
    """
    handed = _copied(model) if any(getattr(part, "training", False) for part in model.modules()) else None
    settled = _settled(model)
    device = next((value.device for value in chain(settled.parameters(), settled.buffers())), torch.device("cpu"))
    classes = getattr(model, "num_classes", None) if num_classes is None else num_classes
    if classes == 0:
        raise TargetError(f"{name}: expected a model that gives logits, got one without head")
    classes = classes if isinstance(classes, int) else None
    spec_hash = provenance = None
    why_not = ""

    def normalised(module: nn.Module) -> nn.Module:
        return module if normalisation is None else Normalised(module, normalisation, device=device)

    def classifier(module: nn.Module) -> nn.Module:
        inner = normalised(module)
        return inner if spec_hash is not None else Logits(inner, name=name, num_classes=classes)

    def proposed_in(dtype: torch.dtype) -> nn.Module:
        if isinstance(settled, Network):
            return normalised(for_inference(settled, dtype=dtype))
        return Traced(judge, dtype=dtype)

    wanted, proposer = resolve_dtype(dtype, device), None
    if isinstance(settled, Network):
        try:
            proposer = proposed_in(wanted)
            spec_hash, provenance = settled.spec.hash, settled.spec.provenance.source
        except ModelError as error:
            why_not = f"it has no fast form: {error}"
    judge = classifier(settled)
    if proposer is None:
        proposer = judge if why_not else proposed_in(wanted)
    state, script = settled.state_dict(), _script_sha256(settled)
    return Target(
        identity=ModelIdentity(
            name=printable(name),
            spec_hash=spec_hash,
            state_sha256=state_sha256(state) if state or script is None else None,
            file_sha256=file_sha256(file) if file is not None and file.is_file() else script,
            parameters=sum(parameter.numel() for parameter in settled.parameters()),
            mean=None if normalisation is None else normalisation.mean,
            std=None if normalisation is None else normalisation.std,
        ),
        judge=judge,
        proposer=proposer,
        num_classes=classes,
        input_size=_input_size(settled),
        why_not=why_not,
        device=device,
        module=judge if handed is None else classifier(handed.float()),
        training_sha256=None if file is None else trained_on(file),
        provenance=provenance,
        stated=stated_normalisation(name, settled),
        proposed_in=None if why_not else proposed_in,
    )


def _copied(model: nn.Module) -> nn.Module:
    """Return a deep copy; of a script by way of its file, since a copy would hold on to the graph of its parameters."""
    if isinstance(model, torch.jit.ScriptModule):
        return torch.jit.load(io.BytesIO(model.save_to_buffer()))
    return copy.deepcopy(model)


def _settled(model: nn.Module) -> nn.Module:
    """Return a model in eval mode and float32 whose parameters want no gradients; a frozen script is so already."""
    if all(hasattr(part, "training") for part in model.modules()):
        model = model.eval()
    model = model.float()
    for parameter in model.parameters():  # a script has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return model


def _script_sha256(model: nn.Module) -> str | None:
    """Return the hash of a script's code and constants, where weights are once it is frozen; None for other modules."""
    if not isinstance(model, torch.jit.ScriptModule):
        return None
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(model.save_to_buffer())) as archive:
        for path in sorted(archive.namelist()):
            name = path.partition("/")[2]
            if name.startswith(("code/", "constants", "data")) and not name.endswith(".debug_pkl"):
                content = archive.read(path)
                digest.update(MANGLED.sub(b"", name.encode()))
                digest.update(MANGLED.sub(b"", content))
    return digest.hexdigest()


def own_normalisation(name: str, model: nn.Module) -> Normalisation:
    """Return the normalisation that timm's configuration of a model states. Raises TargetError if it states none."""
    normalisation = stated_normalisation(name, model)
    if normalisation is None:
        expected = "expected to know how its inputs are normalised, which its configuration does not say"
        raise TargetError(f"{name}: {expected}: give mean and std, 0 and 1 a channel if it takes [0, 1] as it is")
    return normalisation


def stated_normalisation(name: str, model: nn.Module) -> Normalisation | None:
    """Return the normalisation that timm's configuration of a model states, or None if it states none.

    Raises TargetError for one that cannot be.
    """
    configuration = _configuration(model)
    mean, std = configuration.get("mean"), configuration.get("std")
    if not (isinstance(mean, list | tuple) and isinstance(std, list | tuple)):
        return None
    return normalisation_from(name, mean, std)


def timm_model(name: str, weights: Path | None) -> nn.Module:
    """Return a model of timm with its own weights or those of a safetensors file. Raises TargetError, WeightsError."""
    try:
        if weights is None:
            with one_try(name):
                return timm.create_model(name, pretrained=True)
        state = zoo.read_weights(weights)
        model = timm.create_model(name, pretrained=False, **_head(name, state))
    except WeightsError:
        raise
    except LOADING_ERRORS as error:
        instead = "" if weights is not None else "; a safetensors file can be given as weights instead"
        raise TargetError(f"{name}: timm cannot load it: {error}{instead}") from error
    zoo.load_weights(model, state, source=weights, name=name)
    return model


def trained_model(name: str, weights: Path | None) -> nn.Module:
    """Return the model of a training run's folder, with other weights if a file of them is given.

    Raises: TargetError, WeightsError.
    """
    architecture = from_run(Path(name))
    if architecture is None:
        raise TargetError(f"{name}: expected the folder of a training run, with spec.json or model.json")
    file = weights or Path(name) / "model.safetensors"
    model = build(architecture)
    zoo.load_weights(model, zoo.read_weights(file), source=file, name=name)
    return model


def weights_file(name: str, weights: Path | None, model: nn.Module) -> Path:
    """Return the file from which a model's weights were read, whether or not it exists on this machine.

    Args:
        name: the model's name, or a folder.
        weights: the file that was given for it.
        model: as timm built it, whose configuration knows the file or folder of its weights.
    """
    if weights is not None:
        return weights
    path = Path(_configuration(model).get("file") or name)
    return path if path.suffix.lower() == ".safetensors" else path / "model.safetensors"


def trained_on(weights: Path) -> str | None:
    """Return `Images.sha256` of the images that a weights file was trained on, or None if nothing states it.

    The manifest states it for bundled weights, `run.json` for those of a training run's folder. Raises DocumentError if
    that file is not JSON.
    """
    if weights.parent.absolute() == FOLDER:  # any other folder may have a manifest of its own
        entry = entry_of(weights)
        return None if entry is None else entry.trained_on
    path = weights.parent / "run.json"
    if not path.is_file():
        return None
    written = parse_json(read_bytes(path), source=str(path))
    sha256 = written.get("data") if isinstance(written, dict) else None
    return sha256 if isinstance(sha256, str) else None


def _head(name: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the option that gives a model as many classes as the weights have, if timm knows the head's name."""
    configuration = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    head = state.get(f"{configuration.classifier}.weight") if configuration else None
    return {} if head is None else {"num_classes": head.shape[0]}


def _input_size(model: nn.Module) -> tuple[int, int, int] | None:
    """Return (C, H, W) if a model takes no other size."""
    if isinstance(model, Network):
        return (model.in_chans, *model.spec.network.input_size[1:])
    configuration = _configuration(model)
    if configuration.get("fixed_input_size") and configuration.get("input_size"):
        channels, height, width = configuration["input_size"]
        return (channels, height, width)
    return None


def _configuration(model: nn.Module) -> Mapping[str, Any]:
    """Return timm's configuration of a model, which is empty unless timm built it."""
    configuration = getattr(model, "pretrained_cfg", None)
    return configuration if isinstance(configuration, Mapping) else {}
