"""Classifiers by what a user calls them: what judges, what proposes, and which function it is."""

from __future__ import annotations

import copy
import importlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from robnet_zoo.attacks import Attack, AutoAttack, Classifier
from robnet_zoo.benchmarks.result import ModelIdentity
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.load import rebuild
from robnet_zoo.core.documents import nearest, parse_json, read_bytes
from robnet_zoo.core.precision import Arithmetic, arithmetic
from robnet_zoo.errors import DocumentError, OnnxFileError, TargetError, UnsupportedError, WeightsError
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.network import Network
from robnet_zoo.zoo import registry as zoo
from robnet_zoo.zoo.architecture import Architecture, beside, build
from robnet_zoo.zoo.weights import FOLDER, entry_of, weights_sha256

PARITY = 1e-5  # largest difference of a rebuilt graph's logits from its file's, in the largest logit's size or 1
# The same of a file of ours, whose graph and weights are checked as such: the rounding of its own precision.
OUR_PARITY: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "fp16": 0.05, "int8": 0.5})
ROBUSTBENCH = "robustbench:"
ELSEWHERE = ("local-dir:", "hf-hub:", "hf_hub:")  # what timm loads models by, besides its names
TIMM_ERRORS = (RuntimeError, ValueError, AssertionError, OSError, KeyError, TypeError, SafetensorError)
TORCH_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)  # of a graph that torch refuses


@dataclass(frozen=True)
class Target:
    """A classifier of images (N, C, H, W) in [0, 1], whatever normalisation happens inside it.

    judge: the original, in float32 and eval mode: what it says counts. proposer: a form of the same function that
    attacks can differentiate, fast if there is a fast one; None if there is none, and `why_not` says why in one line.
    input_size: (C, H, W), None where any will do. num_classes: how many logits. device: where images must be. module:
    what was handed over, in the mode that it was handed over in, as a classifier of float32 images in [0, 1]; None for
    a file. training_sha256: `Images.sha256` of what it was trained on, where that is known. provenance: where
    its architecture comes from, in words, as a spec says it.
    """

    identity: ModelIdentity
    judge: Classifier
    proposer: Classifier | None
    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    why_not: str = ""
    device: torch.device | str = "cpu"
    module: nn.Module | None = None
    training_sha256: str | None = None
    provenance: str | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        return self.identity.name

    def form_for(self, attack: Attack | AutoAttack) -> Classifier:
        """What an attack looks at: answers alone, the original where it has gradients, or the fast form."""
        if attack.gradient_free or (attack.precise and self.identity.kind == "torch"):
            return self.judge
        assert self.proposer is not None, "gradients are asked for before attacks begin"
        return self.proposer


@dataclass(frozen=True)
class Normalisation:
    """(images - mean) / std, a number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Normalised(nn.Module):
    """A classifier of normalised images as one of images in [0, 1]."""

    def __init__(self, classifier: Classifier, normalisation: Normalisation, *, device: torch.device) -> None:
        super().__init__()
        self.classifier = classifier
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            self.register_buffer(name, torch.tensor(values, device=device)[:, None, None])  # (C, 1, 1)
        self.training = isinstance(classifier, nn.Module) and classifier.training  # which stays as it is

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] != len(self.mean):  # one channel would be stretched to three without a word
            raise ValueError(f"expected images of {len(self.mean)} channels, as mean and std, got {images.shape[1]}")
        return self.classifier((images - self.mean) / self.std)


def load_target(
    name: str,
    *,
    weights: Path | None = None,
    dtype: Arithmetic = "bfloat16",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> Target:
    """A trained classifier by what a user calls it.

    name: one of

    - an ONNX file, `FILE.onnx`: ONNX Runtime judges; what proposes is in float32: of a file of ours the model that
      its metadata and weights give, for fp16 and int8 the twin in float32; of others the graph, rebuilt in torch;
    - a timm name (`name`, `name.tag`, `local-dir:FOLDER` or `hf-hub:REPOSITORY`) with its own weights, or with
      `weights`: a model that was not compiled from a spec proposes itself, in float32;
    - the name or the path of a spec, with `weights`;
    - `robustbench:NAME`, or `robustbench:DATASET/THREAT/NAME` (by default cifar10/Linf): a model of RobustBench's
      leaderboard, by its package, which fetches and opens the weights;
    - a folder with `model.safetensors` and `spec.json` or `model.json`, as training leaves it, or `config.json`, as
      timm does.

    weights: a safetensors file. dtype: of the arithmetic that proposes, where the model was compiled from a spec; see
    `robnet_zoo.core.precision`.
    mean, std: a number a channel; images, which are in [0, 1], are normalised with them inside the target. By default
    those of timm's configuration; models compiled from a spec and ONNX files are taken to want [0, 1] as it is.
    device: where judge and proposer compute and want their images, by default CUDA where there is one. ONNX Runtime
    then judges there too if it can; if `device` is given, it must.
    Raises TargetError.
    """
    place = torch.device(device or _own_device())
    given = _normalisation(name, mean, std)
    try:
        if name.endswith(".onnx"):
            if weights is not None:
                raise TargetError(f"{name}: an ONNX file brings its own weights, expected no others, got {weights}")
            return _of_file(Path(name), given, place, strict=device is not None)
        model = _load(name, weights).eval()
    except (WeightsError, DocumentError, OnnxFileError) as error:
        raise TargetError(str(error)) from error
    if given is None and not isinstance(model, Network) and not name.startswith(ROBUSTBENCH):
        given = _own_normalisation(name, model)
    learned = trained_on(_weights_file(name, weights, model))
    return _of_frozen(model.to(place), name, given, dtype=dtype, num_classes=None, training_sha256=learned)


def _own_device() -> str:
    """The accelerator of this process, where there is one: under torchrun each takes its own."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def of_module(
    model: nn.Module,
    *,
    name: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    num_classes: int | None = None,
    dtype: Arithmetic = "bfloat16",
) -> Target:
    """Any classifier of images in [0, 1], or, with mean and std, of images normalised with these.

    The target is a deep copy in float32 and eval mode whose parameters want no gradients, on the model's device: the
    model's own mode and parameters stay untouched, and later training does not change what is measured.
    num_classes: by default the model's attribute of this name, if it has one. dtype: as in `load_target`.
    Raises TargetError if the model cannot be copied.
    """
    given = _normalisation(name, mean, std)
    try:
        frozen = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise TargetError(f"{name}: expected a model that can be copied, got: {error}") from error
    return _of_frozen(frozen, name, given, dtype=dtype, num_classes=num_classes)


def _weights_file(name: str, weights: Path | None, model: nn.Module) -> Path:
    """Where a model's weights were read from; timm's configuration has the file of bundled ones, or a folder."""
    if weights is not None:
        return weights
    place = Path(_configuration(model).get("file") or name)
    return place if place.suffix == ".safetensors" else place / "model.safetensors"


def trained_on(weights: Path) -> str | None:
    """`Images.sha256` of what a weights file was trained on; None if nothing says so.

    The manifest of the bundled weights does, or the `run.json` beside those that training left. Raises DocumentError
    if that is no JSON.
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


def _of_frozen(
    model: nn.Module,
    name: str,
    normalisation: Normalisation | None,
    *,
    dtype: Arithmetic,
    num_classes: int | None,
    training_sha256: str | None = None,
) -> Target:
    """A target around a model that nobody else has: it is changed in place."""
    handed = copy.deepcopy(model).float() if any(part.training for part in model.modules()) else model
    judge = model.eval().float().requires_grad_(False)
    device = next((value.device for value in chain(judge.parameters(), judge.buffers())), torch.device("cpu"))
    proposer: nn.Module = judge
    classes = getattr(model, "num_classes", None) if num_classes is None else num_classes
    spec_hash = provenance = None
    if isinstance(judge, Network):
        proposer, spec_hash = for_inference(judge, dtype=arithmetic(dtype, device)), judge.spec.hash
        provenance = judge.spec.provenance.source
    if classes == 0:
        raise TargetError(f"{name}: expected a model that gives logits, got one without head")
    return Target(
        identity=ModelIdentity(
            name=name,
            spec_hash=spec_hash,
            weights_sha256=weights_sha256(model),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            mean=None if normalisation is None else normalisation.mean,
            std=None if normalisation is None else normalisation.std,
        ),
        judge=_inside(judge, normalisation, device),
        proposer=_inside(proposer, normalisation, device),
        num_classes=classes if isinstance(classes, int) else None,
        input_size=_input_size(model),
        device=device,
        module=handed if normalisation is None else Normalised(handed, normalisation, device=device),
        training_sha256=training_sha256,
        provenance=provenance,
    )


def _input_size(model: nn.Module) -> tuple[int, int, int] | None:
    """(C, H, W) where a model takes no other."""
    if isinstance(model, Network):
        return (model.in_chans, *model.spec.network.input_size[1:])
    configuration = _configuration(model)
    if configuration.get("fixed_input_size") and configuration.get("input_size"):
        channels, height, width = configuration["input_size"]
        return (channels, height, width)
    return None


def _configuration(model: nn.Module) -> Mapping[str, Any]:
    """timm's, of a model that timm has built."""
    configuration = getattr(model, "pretrained_cfg", None)
    return configuration if isinstance(configuration, Mapping) else {}


def _load(name: str, weights: Path | None) -> nn.Module:
    """A model with trained weights. Names come before folders that are called the same."""
    if name.startswith(ROBUSTBENCH):
        if weights is not None:
            raise TargetError(f"{name}: RobustBench brings its weights, expected no others, got {weights}")
        return _from_robustbench(name)
    folder = Path(name)
    if folder.is_dir() and not timm.is_model(name):
        architecture = beside(folder)
        if architecture is not None:
            return _trained(architecture, weights or folder / "model.safetensors", name)
        if not (folder / "config.json").is_file():
            documents = "spec.json, model.json or config.json"
            raise TargetError(f"{name}: expected a folder with model.safetensors and {documents}")
        name = f"local-dir:{name}"
    if folder.suffix == ".json" and weights is None:
        raise TargetError(f"{name}: expected weights for this spec: give a safetensors file")
    if weights is not None and (folder.suffix == ".json" or name in zoo.spec_names()):
        return zoo.load_model(name, weights=weights)
    if not (timm.is_model(name) or name.startswith(ELSEWHERE)):
        known = sorted({*zoo.default_cfgs, *zoo.spec_names()})
        near = nearest(name, [*known, *timm.list_models()])
        raise TargetError(f"{name}: neither an ONNX file, nor a folder, nor a spec, nor a model of timm{near}")
    return _from_timm(name, weights)


def _from_robustbench(name: str) -> nn.Module:
    """A model of its leaderboard, which takes images in [0, 1]."""
    *conditions, model = name.removeprefix(ROBUSTBENCH).split("/")
    if len(conditions) not in (0, 2):
        raise TargetError(f"{name}: expected {ROBUSTBENCH}NAME or {ROBUSTBENCH}DATASET/THREAT/NAME")
    dataset, threat = conditions or ("cifar10", "Linf")
    try:
        robustbench = importlib.import_module("robustbench.utils")
    except ImportError as error:
        raise TargetError(f"{name}: expected the package robustbench to be installed, got: {error}") from error
    try:
        found: nn.Module = robustbench.load_model(model_name=model, dataset=dataset, threat_model=threat)
    except TIMM_ERRORS as error:
        raise TargetError(f"{name}: RobustBench cannot load it: {type(error).__name__}: {error}") from error
    return found


def _trained(architecture: Architecture, weights: Path, name: str) -> nn.Module:
    """The model of a training run."""
    model = build(architecture)
    zoo.load_weights(model, zoo.read_weights(weights), source=weights, name=name)
    return model


def _from_timm(name: str, weights: Path | None) -> nn.Module:
    try:
        if weights is None:
            return timm.create_model(name, pretrained=True)
        state = zoo.read_weights(weights)
        model = timm.create_model(name, pretrained=False, **_head(name, state))
    except WeightsError:
        raise
    except TIMM_ERRORS as error:
        instead = "" if weights is not None else "; a safetensors file can be given as weights instead"
        raise TargetError(f"{name}: timm cannot load it: {error}{instead}") from error
    zoo.load_weights(model, state, source=weights, name=name)
    return model


def _head(name: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """As many classes as the weights are for, where timm says which of them are the head's."""
    configuration = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    head = state.get(f"{configuration.classifier}.weight") if configuration else None
    return {} if head is None else {"num_classes": head.shape[0]}


def _normalisation(name: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None or len(mean) != len(std) or not len(mean):
        raise TargetError(f"{name}: expected mean and std, a number a channel each, got {mean} and {std}")
    if not all(map(math.isfinite, mean)) or not all(math.isfinite(value) and value > 0 for value in std):
        raise TargetError(f"{name}: expected finite means and positive deviations, got {mean} and {std}")
    return Normalisation(tuple(map(float, mean)), tuple(map(float, std)))


def _own_normalisation(name: str, model: nn.Module) -> Normalisation:
    configuration = _configuration(model)
    mean, std = configuration.get("mean"), configuration.get("std")
    if not (isinstance(mean, list | tuple) and isinstance(std, list | tuple)):
        expected = "expected to know how its inputs are normalised, which its configuration does not say"
        raise TargetError(f"{name}: {expected}: give mean and std, 0 and 1 a channel if it takes [0, 1] as it is")
    normalisation = _normalisation(name, mean, std)
    assert normalisation is not None
    return normalisation


def _inside(classifier: Classifier, normalisation: Normalisation | None, device: torch.device) -> Classifier:
    return classifier if normalisation is None else Normalised(classifier, normalisation, device=device)


def _of_file(path: Path, normalisation: Normalisation | None, device: torch.device, *, strict: bool) -> Target:
    file = OnnxClassifier(path, provider="cpu")
    channels = file.axes[0]
    if normalisation is not None and channels not in (None, len(normalisation.mean)):
        raise TargetError(f"{path}: expected mean and std of {channels} channels, got {len(normalisation.mean)}")
    network, proposer, why_not = _own(file, normalisation)
    if proposer is None:
        proposer, why_not = _rebuilt(file, normalisation, refused=why_not)
    if device.type == "cuda":
        try:
            file.to("cuda")
        except OnnxFileError:
            if strict:
                raise
    return Target(
        identity=ModelIdentity(
            name=str(path),
            kind="onnx",
            spec_hash=None if file.spec is None else file.spec.hash,
            weights_sha256=file.sha256,
            parameters=file.parameters if network is None else sum(value.numel() for value in network.parameters()),
            precision=file.precision if network is not None else None,
            exported_from=file.metadata.get("weights_sha256") if network is not None else None,
            mean=None if normalisation is None else normalisation.mean,
            std=None if normalisation is None else normalisation.std,
        ),
        judge=_inside(file, normalisation, device),
        proposer=None if proposer is None else _inside(proposer.to(device), normalisation, device),
        num_classes=file.num_classes,
        input_size=file.input_size,
        why_not=why_not,
        device=device,
    )


def _own(file: OnnxClassifier, normalisation: Normalisation | None) -> tuple[Network | None, nn.Module | None, str]:
    """The network in a file of ours, and its inference form in float32; None, and the reason, where it has none."""
    if not file.opened.ours:
        return None, None, ""
    try:
        network = rebuild(file.opened)
    except OnnxFileError as error:
        return None, None, str(error)
    proposer = for_inference(network, dtype=torch.float32)
    with torch.no_grad():
        found = _inside(proposer, normalisation, torch.device("cpu"))(file.probe)
    if far := _too_far(found, _expected(file, normalisation), OUR_PARITY[file.precision or "fp32"]):
        return None, None, f"its network, rebuilt in torch, gives {far}"
    return network, proposer, ""


def _rebuilt(
    file: OnnxClassifier, normalisation: Normalisation | None, *, refused: str
) -> tuple[nn.Module | None, str]:
    """A file's graph in torch, if it gives the file's logits and their gradients; else None and the reason.

    Graphs with a fixed batch often take others too; those that do not run in pieces, as the file does. refused: why a
    file that says it is ours is not taken as such.
    """
    cpu = torch.device("cpu")
    why_not = refused
    for batch in dict.fromkeys((None, file.batch)):
        try:
            module = file.module(batch=batch)
            images = file.probe.clone().requires_grad_()
            found = _inside(module, normalisation, cpu)(images)
        except UnsupportedError as error:
            return None, refused or str(error)
        except TORCH_ERRORS as error:
            why_not = " ".join(f"its graph cannot be rebuilt in torch: {error}".split())
            continue
        if far := _too_far(found.detach(), _expected(file, normalisation), PARITY):
            why_not = f"its graph, rebuilt in torch, gives {far}"
        elif not found.requires_grad:
            why_not = "its logits do not depend on the images by operations that have gradients"
        else:
            return module, ""
    return None, why_not


def _expected(file: OnnxClassifier, normalisation: Normalisation | None) -> Tensor:
    """The file's logits of its probe, (N, K)."""
    return _inside(file, normalisation, torch.device("cpu"))(file.probe)


def _too_far(found: Tensor, expected: Tensor, parity: float) -> str:
    """How logits differ, if by more than `parity` of the largest or of 1; empty if they do not."""
    if found.shape != expected.shape:
        return f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    away, allowed = float((found - expected).abs().max()), parity * max(1.0, float(expected.abs().max()))
    return "" if away <= allowed else f"logits {away:.2g} away, more than {allowed:.2g}"  # NaN too
