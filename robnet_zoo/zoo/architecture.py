"""What can be trained and measured: the network of a spec, or a model of timm by its name. Both are documents.

load_architecture("robnet_free")             # a spec, by bundled name or by path
load_architecture("resnet18_cifar")          # a model of timm, the comparison networks among them
fitted(architecture, num_classes=100)        # the same for another data set
scaled(architecture, width=0.5, size=0.5)    # the same, smaller
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
from pydantic import Field
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robnet_zoo.core.documents import Document, exactly, nearest, parse_json, read_bytes
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype import blueprint
from robnet_zoo.genotype.genotype import STEM_STRIDES, Genotype
from robnet_zoo.genotype.layers import DenoiseForm
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo.baselines import BASELINES, MAX_FACTOR
from robnet_zoo.zoo.registry import load_spec, spec_names

SPEC, MODEL = "spec.json", "model.json"
Count = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0, le=MAX_FACTOR)]
TIMM_ERRORS = (RuntimeError, ValueError, AssertionError, TypeError, KeyError, AttributeError)


class TimmModel(Document):
    """A model of timm without weights, as a spec is a network of ours.

    model: timm's name. input_size: (channels, height, width) of images in [0, 1], which are not normalised.
    width, depth, denoise: of the comparison networks (`robnet_zoo.zoo.baselines`).
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    model: Annotated[str, Field(max_length=200)]
    num_classes: Count
    input_size: Annotated[tuple[Count, Count, Count], Field(strict=False)]
    width: Factor = 1.0
    depth: Factor = 1.0
    denoise: DenoiseForm | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        return self.model if self.denoise is None else f"{self.model}_{self.denoise}"

    @property
    def hash(self) -> str:
        """sha256 of the document."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


Architecture = Genotype | TimmModel


@dataclass(frozen=True)
class Costs:
    """Parameters, and multiply-adds an image: convolutions and matrix products."""

    parameters: int
    multiply_adds: int


def load_architecture(name: str) -> Architecture:
    """A spec by bundled name or path, a document of a timm model by path, or a model of timm by name.

    Raises DocumentError.
    """
    path = Path(name)
    if path.suffix == ".json":
        found = parse_json(read_bytes(path), source=name)
        if isinstance(found, Mapping) and "model" in found:
            return TimmModel.load(path)
    if name in spec_names() or path.suffix == ".json" or path.is_file():
        return load_spec(name)
    if not timm.is_model(name):
        near = nearest(name, [*spec_names(), *BASELINES, *timm.list_models()])
        raise DocumentError([f"expected a spec or a model of timm{near}"], source=name)
    published = timm.models.get_pretrained_cfg(name)
    size = (3, 224, 224) if published is None else published.input_size
    return TimmModel(model=name, num_classes=1000 if published is None else published.num_classes, input_size=size)


def head(architecture: Architecture) -> tuple[tuple[int, int, int], int]:
    """(channels, height, width) of the images that it takes, and how many classes it tells apart."""
    of = architecture.network if isinstance(architecture, Genotype) else architecture
    return of.input_size, of.num_classes


def build(architecture: Architecture, *, device: str | None = None) -> nn.Module:
    """The network, randomly initialised. Raises DocumentError where timm cannot build it."""
    if isinstance(architecture, Genotype):
        with nullcontext() if device is None else torch.device(device):
            return compile(architecture)
    own: dict[str, Any] = {} if device is None else {"device": device}
    if architecture.model in BASELINES:
        own |= {"width": architecture.width, "depth": architecture.depth, "denoise": architecture.denoise}
    elif (architecture.width, architecture.depth, architecture.denoise) != (1.0, 1.0, None):
        raise DocumentError(
            [f"expected width, depth and denoise of the comparison networks alone ({', '.join(BASELINES)})"],
            source=architecture.name,
        )
    channels = architecture.input_size[0]
    as_they_are = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "input_size": architecture.input_size}
    try:
        model: nn.Module = timm.create_model(
            architecture.model,
            num_classes=architecture.num_classes,
            in_chans=channels,
            pretrained_cfg_overlay=as_they_are,
            **own,
        )
    except TIMM_ERRORS as error:
        raise DocumentError([f"timm cannot build it: {error}"], source=architecture.name) from error
    return model


def costs(architecture: Architecture) -> Costs:
    """Exact counts. Raises DocumentError where its images are too small for it."""
    if isinstance(architecture, Genotype):
        return Costs(blueprint.parameters(architecture), blueprint.multiply_adds(architecture))
    model = build(architecture, device="meta").eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model(torch.rand(1, *architecture.input_size, device="meta"))
    except TIMM_ERRORS as error:
        size = "x".join(map(str, architecture.input_size))
        raise DocumentError([f"cannot take images of {size}: {error}"], source=architecture.name) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Costs(parameters, counter.get_total_flops() // 2)


def fitted(
    architecture: Architecture, *, num_classes: int | None = None, input_size: tuple[int, int, int] | None = None
) -> Architecture:
    """The same architecture for other classes or images. Raises DocumentError if it cannot take them."""
    given = {"num_classes": num_classes, "input_size": input_size}
    changes = {key: value for key, value in given.items() if value is not None}
    if isinstance(architecture, TimmModel):
        return architecture.model_copy(update=changes)
    return _with(architecture, network=architecture.network.model_dump() | changes)


def scaled(architecture: Architecture, *, width: float = 1.0, depth: float = 1.0, size: float = 1.0) -> Architecture:
    """The same architecture, smaller. Raises DocumentError.

    width: share of the channels. depth: of the cells, taken at even distances, with the same reduction cells; of a
    comparison network, of the blocks a stage. size: of the pixels a side.
    """
    channels, *sides = head(architecture)[0]
    height, breadth = (max(1, round(size * side)) for side in sides)
    if isinstance(architecture, TimmModel):
        return architecture.model_copy(
            update={
                "width": architecture.width * width,
                "depth": architecture.depth * depth,
                "input_size": (channels, height, breadth),
            }
        )
    network = architecture.network
    stride = STEM_STRIDES[network.stem] * 2 ** len(network.reductions)
    if height % stride or breadth % stride:
        expected = f"expected a size whose images are divisible by {stride}, got {height}x{breadth} pixels"
        raise DocumentError([expected], source=architecture.name)
    cells = max(len(network.reductions) + 1, round(depth * network.depth))
    layout = [architecture.layout[at * network.depth // cells] for at in range(cells)]
    reductions: list[int] = []
    for index, at in enumerate(network.reductions):  # the cell that reduces still does, at this share of the depth
        first, last = reductions[-1] + 1 if reductions else 0, cells - len(network.reductions) + index
        reductions.append(min(max(first, -(-at * cells // network.depth)), last))
        layout[reductions[-1]] = architecture.layout[at]
    changes: dict[str, Any] = {
        "channels": max(1, round(width * network.channels)),
        "depth": cells,
        "reductions": reductions,
        "input_size": (channels, height, breadth),
    }
    if network.denoise is not None:  # behind the end of the same stage, or share of the depth
        after = sorted({-(-(at + 1) * cells // network.depth) - 1 for at in network.denoise.after})
        changes["denoise"] = network.denoise.model_dump() | {"after": after}
    return _with(architecture, network=network.model_dump() | changes, layout=layout)


def denoised(architecture: Architecture, form: DenoiseForm) -> Architecture:
    """The same with denoising blocks behind its stages (Xie et al., 2019): where the size of the images changes."""
    if isinstance(architecture, TimmModel):
        return architecture.model_copy(update={"denoise": form})
    network = architecture.network
    after = sorted({at - 1 for at in (*network.reductions, network.depth) if at})
    return _with(architecture, network=network.model_dump() | {"denoise": {"after": after, "form": form}})


def _with(spec: Genotype, *, network: Mapping[str, Any], layout: list[str] | None = None) -> Genotype:
    layout = list(spec.layout) if layout is None else layout
    cells = {name: cell for name, cell in spec.model_dump()["cells"].items() if name in layout}
    changed = spec.model_dump() | {"network": network, "layout": layout, "cells": cells}
    return Genotype.parse(changed, source=spec.name)


def document_name(architecture: Architecture) -> str:
    """What the document is called beside weights."""
    return SPEC if isinstance(architecture, Genotype) else MODEL


def saved(architecture: Architecture, folder: Path) -> Path:
    """Write it into a folder, as `spec.json` or `model.json`; returns which."""
    path = folder / document_name(architecture)
    architecture.save(path)
    return path


def beside(folder: Path) -> Architecture | None:
    """The architecture that a training run wrote down in its folder, if there is one. Raises DocumentError."""
    if (folder / SPEC).is_file():
        return Genotype.load(folder / SPEC)
    return TimmModel.load(folder / MODEL) if (folder / MODEL).is_file() else None
