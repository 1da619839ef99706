"""timm registration: one entry point a spec of `specs/`, and `robnet(spec=...)` for any other.

    import timm, robnet_zoo
    timm.create_model("robnet_free", num_classes=100)
    timm.create_model("robnet", spec="my_cell.json")

timm's own keywords work: pretrained, num_classes, in_chans, features_only, out_indices, checkpoint_path, global_pool,
drop_rate. Inputs are in [0, 1]: mean 0, std 1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from timm.models import resolve_pretrained_cfg as resolve_cfg
from torch import nn

from robnet_zoo import weights
from robnet_zoo.compiler import compile
from robnet_zoo.documents import DocumentError, nearest, shown
from robnet_zoo.genotype import STEM_STRIDES, Genotype
from robnet_zoo.network import Network
from robnet_zoo.weights import WeightsError

SPECS = Path(__file__).parent / "specs"
SCHEMA = SPECS / "genotype.schema.json"
DEFAULT_SPEC = "robnet_free"  # what the generic `robnet` builds when no spec is given
SpecLike = str | os.PathLike[str] | Mapping[str, Any] | Genotype


def spec_names() -> list[str]:
    """The names of the bundled specs, sorted."""
    return sorted(path.stem for path in SPECS.glob("*.json") if path != SCHEMA)


def load_spec(spec: SpecLike) -> Genotype:
    """A spec by bundled name, by path, as a mapping, or itself. Raises DocumentError."""
    if isinstance(spec, Genotype):
        return spec
    if isinstance(spec, Mapping):
        return Genotype.parse(spec)
    if isinstance(spec, str) and spec in spec_names():
        return Genotype.load(SPECS / f"{spec}.json")
    path = Path(spec)
    if not path.exists() and path.suffix != ".json":
        near = nearest(spec, spec_names())
        raise DocumentError([f"expected a bundled spec or the path of a JSON file{near}"], source=shown(str(spec)))
    return Genotype.load(path)


def _default_cfg(network: Mapping[str, Any]) -> dict[str, Any]:
    """timm's pretrained configuration for the `network` part of a spec."""
    stride = STEM_STRIDES[network["stem"]] * 2 ** len(network["reductions"])
    return {
        "num_classes": network["num_classes"],
        "input_size": tuple(network["input_size"]),
        "pool_size": tuple(side // stride for side in network["input_size"][1:]),
        "crop_pct": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": "stem.0.0",
        "classifier": "classifier",
        "paper_name": "When NAS Meets Robustness: In Search of Robust Architectures against Adversarial Attacks",
        "paper_ids": "arXiv:1911.10695",
    }


def _all_default_cfgs() -> dict[str, dict[str, Any]]:
    """Configurations by `model` or, where weights are bundled, `model.tag`. Reads specs as plain JSON: no validation."""
    bundled = weights.manifest().entries
    cfgs: dict[str, dict[str, Any]] = {}
    for name in spec_names():
        cfg = _default_cfg(json.loads((SPECS / f"{name}.json").read_bytes())["network"])
        tags = {f"{name}.{entry.tag}": entry for entry in bundled if entry.model == name}
        cfgs |= {key: cfg | {"file": str(entry.path)} for key, entry in tags.items()} or {name: cfg}
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
    with torch.device(torch.get_default_device() if device is None else device):
        network = compile(
            spec, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool, drop_rate=drop_rate
        )
    return network if dtype is None else network.to(dtype)


def _create(name: str, spec: Genotype, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    overlay = kwargs.pop("pretrained_cfg_overlay", None)
    if pretrained:
        _check_weights(name, spec, kwargs.get("pretrained_cfg"), overlay)
    reductions = spec.network.reductions
    levels = len(reductions) + (0 not in reductions)  # distinct sizes of cell outputs
    return build_model_with_cfg(  # type: ignore[no-any-return]
        _build,
        name,
        pretrained,
        spec=spec,
        pretrained_cfg_overlay=overlay,
        feature_cfg={"feature_cls": "hook", "no_rewrite": True, "out_indices": tuple(range(levels))},
        **kwargs,
    )


def _check_weights(name: str, spec: Genotype, cfg: Any, overlay: dict[str, Any] | None) -> None:
    """Raise WeightsError where timm would find no weights, or bundled weights that are not what the manifest says."""
    resolved = resolve_cfg(name, pretrained_cfg=cfg, pretrained_cfg_overlay=overlay)
    if not (resolved.has_weights or resolved.state_dict):
        raise WeightsError(
            f"no weights of {name} are bundled: train them with `robnet-zoo train`, or import the original's with "
            f"`robnet-zoo convert original FILE --spec {spec.name} -o DIR` and load 'local-dir:DIR'"
        )
    for entry in weights.manifest().entries:
        if resolved.file == str(entry.path):
            weights.check(entry, spec)


def robnet(pretrained: bool = False, *, spec: SpecLike | None = None, **kwargs: Any) -> nn.Module:
    """A network of any spec: a bundled name, a path, a mapping or a Genotype; by default robnet_free's."""
    genotype = load_spec(DEFAULT_SPEC if spec is None else spec)
    if spec is not None and not isinstance(kwargs.get("pretrained_cfg"), Mapping):
        # Unless a saved configuration came along, the spec's own sizes hold, not those of the default spec.
        overlay = _default_cfg(genotype.network.model_dump())
        kwargs["pretrained_cfg_overlay"] = overlay | (kwargs.get("pretrained_cfg_overlay") or {})
    return _create("robnet", genotype, pretrained, kwargs)


def _entry_point(name: str) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(name, load_spec(name), pretrained, kwargs)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"The network of `specs/{name}.json`."
    return entry


def _register() -> None:
    for entry in [robnet, *map(_entry_point, spec_names())]:
        if not is_model(entry.__name__):  # importing twice is harmless
            register_model(entry)


_register()
