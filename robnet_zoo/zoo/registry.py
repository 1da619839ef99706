"""timm registration: one entry point a spec of `specs/`, and `robnet(spec=...)` for any other.

    import timm, robnet_zoo
    timm.create_model("robnet_free", num_classes=100)
    timm.create_model("robnet", spec="my_cell.json")

timm's own keywords work: pretrained, num_classes, in_chans, features_only, out_indices, checkpoint_path, global_pool,
drop_rate. Inputs are in [0, 1]: mean 0, std 1.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm import create_model
from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    is_model,
    load_model_config_from_hf,
    parse_model_name,
    register_model,
    split_model_name_tag,
)
from timm.models import resolve_pretrained_cfg as resolve_cfg
from torch import nn

from robnet_zoo.core.documents import fspath, nearest, parse_json, read_bytes
from robnet_zoo.core.files import note_shadowed
from robnet_zoo.errors import DocumentError, WeightsError
from robnet_zoo.genotype.genotype import STEM_STRIDES, Genotype
from robnet_zoo.genotype.specs import LOCAL, RUN_OF_TIMM, SPECS, SpecLike, load_spec, spec_names
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.hub import one_try

TIMM_ERRORS = (RuntimeError, ValueError, AssertionError, TypeError, KeyError, AttributeError)  # for bad input
CONFIG = "config.json"  # timm's own description of a model, in a folder that it loads as local-dir:FOLDER
DEFAULT_SPEC = "robnet_free"  # what the generic `robnet` builds when no spec is given
ROBUSTBENCH = ("cifar10", "cifar100", "imagenet")  # its data sets: weights whose tag ends in one get an alias


def aliases() -> dict[str, weights.WeightsEntry]:
    """Return the bundled weights that RobustBench's loader can load, by the name that it asks timm for.

    These names join the model, the data set and the threat in lower case: `robnet_free_cifar10_linf`. All bundled
    weights were trained and measured against l-infinity attacks. The first tag of a data set is timm's default.
    """
    known: dict[str, weights.WeightsEntry] = {}
    for entry in weights.manifest().entries:
        name = entry.tag.rpartition("_")[2]  # fast_cifar10 is of cifar10
        if name in ROBUSTBENCH:
            known.setdefault(f"{entry.model}_{name}_linf", entry)
    return known


def _default_cfg(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return timm's pretrained configuration for the `network` part of a spec."""
    stride = STEM_STRIDES[network["stem"]] * 2 ** len(network["reductions"])
    return {
        "num_classes": network["num_classes"],
        "input_size": tuple(network["input_size"]),
        "pool_size": tuple(side // stride for side in network["input_size"][1:]),
        "crop_pct": 1.0,
        "mean": (0.0,) * network["input_size"][0],
        "std": (1.0,) * network["input_size"][0],
        "first_conv": "stem.0.0",
        "classifier": "classifier",
        "paper_name": "When NAS Meets Robustness: In Search of Robust Architectures against Adversarial Attacks",
        "paper_ids": "arXiv:1911.10695",
    }


def _all_default_cfgs() -> dict[str, dict[str, Any] | PretrainedCfg]:
    """Return configurations by `model` or, where weights are bundled, `model.tag`.

    Specs are read as plain JSON, for speed.
    """
    bundled, known = weights.manifest().entries, aliases()
    cfgs: dict[str, dict[str, Any] | PretrainedCfg] = {}
    for name in spec_names():
        cfg = _default_cfg(json.loads(SPECS.path(name).read_bytes())["network"])
        tags = {f"{name}.{entry.tag}": entry for entry in bundled if entry.model == name}
        tags |= {alias: entry for alias, entry in known.items() if entry.model == name}
        cfgs |= {
            tag: cfg | {"file": str(weights.FOLDER / entry.file), "label_names": entry.classes or None}
            for tag, entry in tags.items()
        } or {name: cfg}
        if name == DEFAULT_SPEC:
            cfgs["robnet"] = cfg
    return cfgs


default_cfgs = generate_default_cfgs(_all_default_cfgs())


def _build(
    *,
    spec: Genotype,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    global_pool: str = "avg",
    drop_rate: float = 0.0,
) -> Network:
    with nullcontext() if device is None else torch.device(device):
        network = compile(
            spec, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool, drop_rate=drop_rate
        )
    return network if dtype is None else network.to(dtype)


def _create(name: str, spec: Genotype, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    overlay = kwargs.pop("pretrained_cfg_overlay", None)
    if pretrained:
        _check_weights(
            spec, resolve_cfg(name, pretrained_cfg=kwargs.get("pretrained_cfg"), pretrained_cfg_overlay=overlay)
        )
    reductions = spec.network.reductions
    levels = len(reductions) + (0 not in reductions)  # distinct sizes of cell outputs
    return build_model_with_cfg(
        _build,
        name,
        pretrained,
        spec=spec,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=_in_float32,
        feature_cfg={"feature_cls": "hook", "no_rewrite": True, "out_indices": tuple(range(levels))},
        **kwargs,
    )


def _in_float32(state: Mapping[str, torch.Tensor], _: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict in float32, in which timm then sums the first kernels for gray images."""
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _check_weights(spec: Genotype, cfg: PretrainedCfg) -> None:
    """Raise WeightsError where timm would find no weights, or other weights than the manifest beside them says."""
    if not (cfg.has_weights or cfg.state_dict):
        raise WeightsError(
            f"no weights of {cfg.architecture} are bundled: train them with `robnet-zoo train`, or import the "
            f"original's with `robnet-zoo convert original FILE --spec {spec.name} -o DIR` and load 'local-dir:DIR'"
        )
    if cfg.file:
        _check_manifest(Path(cfg.file), spec)


def _check_manifest(file: Path, spec: Genotype) -> None:
    """Raise WeightsError for a file of other weights than the manifest beside it says."""
    if entry := weights.entry_of(file):
        weights.check(entry, spec, folder=file.parent)


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's classes, in the order of its logits, as timm's configuration of it has them.

    Empty where they are not known, and where a model has another number of classes than its configuration names.
    """
    cfg = getattr(model, "pretrained_cfg", None) or {}
    names = cfg.get("label_names") if isinstance(cfg, Mapping) else getattr(cfg, "label_names", None)
    known = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    return known if len(known) == getattr(model, "num_classes", len(known)) else ()


def timm_config(spec: Genotype) -> dict[str, Any]:
    """Return the `config.json` by which timm loads a folder with weights of a spec as local-dir:FOLDER."""
    document = spec.model_dump(mode="json", exclude_none=True)
    return {
        "architecture": "robnet",
        "num_classes": spec.network.num_classes,
        "model_args": {"spec": document},
        "pretrained_cfg": _default_cfg(document["network"]),
    }


def robnet(pretrained: bool = False, *, spec: SpecLike | None = None, **kwargs: Any) -> nn.Module:
    """Return the network of any spec: a bundled name, a path, a mapping or a Genotype; by default robnet_free's.

    To save one with timm's `save_for_hf`, give it `model_args={"spec": spec.model_dump(mode="json")}`: then the folder
    does not depend on a file that lies elsewhere.
    """
    genotype = SPECS.own(DEFAULT_SPEC) if spec is None else load_spec(spec)
    given = kwargs.get("pretrained_cfg") or {}  # a saved model's, if one is loaded
    if isinstance(given, Mapping):
        own = {"architecture": "robnet"} | _default_cfg(genotype.network.model_dump())
        kwargs["pretrained_cfg"] = own | dict(given)
    return _create("robnet", genotype, pretrained, kwargs)


def tagged_names() -> list[str]:
    """Return timm's names of the bundled weights, `model.tag`."""
    return [f"{entry.model}.{entry.tag}" for entry in weights.manifest().entries]


def is_known(name: str) -> bool:
    """Return whether timm has a model of this name and, if the name has a tag, weights of this tag."""
    try:
        return is_model(name) and get_pretrained_cfg(name, allow_unregistered=True) is not None
    except RuntimeError:  # an unknown tag, which `is_model` does not look at
        return False


def full_name(name: str) -> str:
    """Return timm's name of a model with the tag of the weights that timm takes for it; other names as they are.

    Raises: WeightsError if a folder here has the same name, so that it may mean two models.
    """
    if not is_known(name):
        return name
    published = get_pretrained_cfg(name, allow_unregistered=True)
    full = name if published is None or not published.tag else f"{published.architecture}.{published.tag}"
    if os.path.isdir(name):
        if full != name:
            raise WeightsError(
                f"{name}: expected the name of one model, got that of a folder here (write ./{name}) and of weights "
                f"(write {full})"
            )
        note_shadowed(name, taken="the model")
    return full


def load_model(target: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None) -> Network:
    """Load a trained network, in eval mode.

    target: a timm name, such as `name.tag` or `hf-hub:REPOSITORY`, or the folder of a training run or a conversion,
    whose own weights are loaded; with `weights`, a safetensors file, also a spec's name or path. Raises DocumentError,
    or WeightsError, also for names that timm does not know and for models that were not compiled from a spec: their
    names do not say whether they expect normalised images. Those are refused before anything is fetched.
    """
    target = fspath(target, "the name of a model or a folder")
    if weights is None:
        full = full_name(target)
        model = _pretrained(full)
        if full != target:
            logging.getLogger(__name__).warning("%s: took the weights %s", target, full)
        return model
    spec = load_spec(target)
    network, file = compile(spec), Path(fspath(weights, "the path of a safetensors file", error=WeightsError))
    _check_manifest(file, spec)
    load_weights(network, read_weights(file), source=weights, name=target)
    return network.eval()


def read_weights(file: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Load the state dict in a safetensors file. Raises WeightsError."""
    path = fspath(file, "the path of a safetensors file", error=WeightsError)
    if os.path.isdir(path):
        raise WeightsError(f"{file}: expected a safetensors file, got a folder")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: expected a safetensors file, got: {error}") from error


def load_weights(
    model: nn.Module, state: Mapping[str, torch.Tensor], *, source: str | os.PathLike[str], name: str
) -> None:
    """Put a state dict into a model, if names and shapes are the same. Raises WeightsError if they are not.

    Args:
        model: any module.
        state: its tensors by name.
        source: what messages call the file.
        name: what messages call the model.
    """
    if misfit := _misfit(model.state_dict(), state):
        raise WeightsError(f"{source}: expected weights of {name}, got {misfit}")
    model.load_state_dict(state)


def run_folder(name: str) -> Path | None:
    """Return the folder of a training run that a name means, `FOLDER` or `local-dir:FOLDER`; None if it means another.

    A folder that timm can load itself is left to timm, where its name says `local-dir:`.
    """
    prefixed = name.startswith(LOCAL)
    folder = Path(name.removeprefix(LOCAL))
    own = [Genotype.file_name, RUN_OF_TIMM]
    if not name or (prefixed and os.path.isfile(folder / CONFIG)) or (not prefixed and is_known(name)):
        return None
    return folder if any(os.path.isfile(folder / file) for file in own) else None


def timm_name(name: str) -> str:
    """Return the name by which timm loads a model: `local-dir:FOLDER` for a folder with timm's configuration."""
    return f"{LOCAL}{name}" if name and os.path.isfile(Path(name) / CONFIG) and not is_known(name) else name


def _pretrained(target: str) -> Network:
    if (folder := run_folder(target)) is not None:
        if not os.path.isfile(folder / Genotype.file_name):
            raise WeightsError(f"{target}: expected a model compiled from a spec, got a run of one of timm's")
        network = load_model(str(folder / Genotype.file_name), weights=folder / "model.safetensors")
        if os.path.isfile(folder / CONFIG):
            config = parse_json(read_bytes(folder / CONFIG), source=str(folder / CONFIG))
            vars(network)["pretrained_cfg"] = config.get("pretrained_cfg") if isinstance(config, Mapping) else None
        return network
    name = timm_name(target)
    try:
        _check_compiled(name)
        with one_try(name):
            model = create_model(name, pretrained=True)
    except (WeightsError, DocumentError):
        raise
    except (*TIMM_ERRORS, OSError, SafetensorError) as error:
        raise WeightsError(f"{target}: {error}") from error  # timm's ways to refuse a name or a folder
    if not isinstance(model, Network):
        raise WeightsError(f"{target}: expected a model compiled from a spec, got {type(model).__name__}")
    return model.eval()


def _check_compiled(name: str) -> None:
    """Raise WeightsError unless timm's name is that of a model compiled from a spec; nothing but a name is fetched."""
    try:
        source, own = parse_model_name(name)
    except ValueError:  # a path, or another prefix
        source, own = None, ""
    if source == "hf-hub":
        with one_try(name):
            _, architecture, _ = load_model_config_from_hf(own)
    elif source == "local-dir":
        config = parse_json(read_bytes(Path(own) / CONFIG), source=str(Path(own) / CONFIG))
        architecture = str(config.get("architecture", "")) if isinstance(config, Mapping) else ""
    else:
        architecture, _ = split_model_name_tag(own)
    known = ["robnet", *spec_names(), *aliases()]
    if architecture in known:
        return
    if is_model(architecture):
        raise WeightsError(f"{name}: expected a model compiled from a spec, got one of timm's")
    near = nearest(name, [*tagged_names(), *default_cfgs, *known])
    raise WeightsError(
        f"{name or 'an empty name'}: neither the name of a model compiled from a spec nor a folder with one{near}"
    )


def _misfit(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first difference in names or shapes, in words."""
    for key in expected:
        if key not in given:
            return f"no {key}"
        if given[key].shape != expected[key].shape:
            return f"{key} of {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
    return next((f"also {key}" for key in given if key not in expected), None)


def _entry_point(name: str, spec: str) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(name, SPECS.own(spec), pretrained, kwargs)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"The network of `specs/{spec}.json`."
    return entry


def _register() -> None:
    own = [_entry_point(name, name) for name in spec_names()]
    for entry in [robnet, *own, *(_entry_point(alias, entry.model) for alias, entry in aliases().items())]:
        if not is_model(entry.__name__):  # importing twice is harmless
            register_model(entry)


_register()
