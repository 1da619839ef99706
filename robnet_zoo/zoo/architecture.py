"""Architectures that can be trained and measured: of a genotype, or a model of timm by its name. Both are documents.

    architecture = load_architecture("robnet_free")      # a spec, by bundled name or by path
    architecture = load_architecture("resnet18_cifar")   # a model of timm, the comparison networks among them
    architecture.fitted(num_classes=100)                 # the same for another data set
    architecture.scaled(width=0.5, size=0.5)             # the same, smaller
    build(architecture)                                  # its network

Both kinds of architecture have the same properties and methods: `name`, `hash`, `signature`, `fitted`, `scaled`,
`denoised`, `save_into`. Only `build` and `costs` are functions of this module, since genotypes do not import torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import timm
import torch
from pydantic import Field
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robnet_zoo.core.documents import Document, exactly, fspath, nearest, parse_json, read_bytes
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype import blueprint
from robnet_zoo.genotype.genotype import Genotype, check_scale
from robnet_zoo.genotype.layers import DenoiseForm
from robnet_zoo.genotype.specs import RUN_OF_TIMM, load_spec, spec_names
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo.baselines import BASELINES, MAX_FACTOR
from robnet_zoo.zoo.registry import TIMM_ERRORS, run_folder, timm_config

Count = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0, le=MAX_FACTOR)]


@dataclass(frozen=True)
class Costs:
    """Parameters, and multiply-adds an image: convolutions and matrix products."""

    parameters: int
    multiply_adds: int


class TimmArchitecture(Document):
    """A model of timm without weights, as a spec is a network of ours.

    model: timm's name. input_size: (channels, height, width) of images in [0, 1], which are not normalised.
    width, depth, denoise: of the comparison networks (`robnet_zoo.zoo.baselines`).
    """

    file_name: ClassVar[str] = RUN_OF_TIMM

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    model: Annotated[str, Field(min_length=1, max_length=200)]
    num_classes: Count
    input_size: Annotated[tuple[Count, Count, Count], Field(strict=False)]
    width: Factor = 1.0
    depth: Factor = 1.0
    denoise: DenoiseForm | None = None

    @property
    def name(self) -> str:
        """Return the name under which results list it."""
        return self.model if self.denoise is None else f"{self.model}_{self.denoise}"

    @property
    def hash(self) -> str:
        """Return the sha256 of the document, as 64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def signature(self) -> tuple[tuple[int, int, int], int]:
        """Return (channels, height, width) of the images that the network takes, and its number of classes."""
        return self.input_size, self.num_classes

    def build(self, *, device: str | None = None) -> nn.Module:
        """Return the network, randomly initialised. Raises DocumentError if timm cannot build it."""
        own: dict[str, Any] = {} if device is None else {"device": device}
        if self.model in BASELINES:
            own |= {"width": self.width, "depth": self.depth, "denoise": self.denoise}
        elif (self.width, self.depth, self.denoise) != (1.0, 1.0, None):
            raise DocumentError(
                [f"expected width, depth and denoise of the comparison networks alone ({', '.join(BASELINES)})"],
                source=self.name,
            )
        channels = self.input_size[0]
        as_they_are = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "input_size": self.input_size}
        try:
            model: nn.Module = timm.create_model(
                self.model,
                num_classes=self.num_classes,
                in_chans=channels,
                pretrained_cfg_overlay=as_they_are,
                **own,
            )
        except TIMM_ERRORS as error:
            raise DocumentError([f"timm cannot build it: {error}"], source=self.name) from error
        return model

    def costs(self) -> Costs:
        """Return exact counts. Raises DocumentError if its images are too small for it."""
        return _costs(self)

    def fitted(
        self, *, num_classes: int | None = None, input_size: tuple[int, int, int] | None = None
    ) -> TimmArchitecture:
        """Return the same architecture for other classes or images."""
        given = {"num_classes": num_classes, "input_size": input_size}
        return self.model_copy(update={key: value for key, value in given.items() if value is not None})

    def scaled(self, *, width: float = 1.0, depth: float = 1.0, size: float = 1.0) -> TimmArchitecture:
        """Return the same architecture at another scale. Raises DocumentError if there is none.

        Args:
            width: share of the channels.
            depth: share of the blocks in each stage.
            size: share of the pixels on a side.
        """
        check_scale(self.name, width=width, depth=depth, size=size)
        channels, *sides = self.input_size
        height, breadth = (max(1, round(size * side)) for side in sides)
        changes = {
            "width": self.width * width,
            "depth": self.depth * depth,
            "input_size": (channels, height, breadth),
        }
        return self.model_copy(update=changes)

    def denoised(self, form: DenoiseForm) -> TimmArchitecture:
        """Return the architecture with a denoising block behind each stage (Xie et al., 2019)."""
        return self.model_copy(update={"denoise": form})

    @property
    def timm_config(self) -> dict[str, Any]:
        """Return the `config.json` by which timm loads a folder with weights of it as local-dir:FOLDER."""
        published = timm.models.get_pretrained_cfg(self.model)
        known = {} if published is None else published.to_dict(remove_null=True)  # type: ignore[no-untyped-call]
        arguments: dict[str, Any] = {"in_chans": self.input_size[0]}
        if self.model in BASELINES:
            arguments |= {"width": self.width, "depth": self.depth, "denoise": self.denoise}
        channels = self.input_size[0]
        return {
            "architecture": self.model,
            "num_classes": self.num_classes,
            "model_args": {key: value for key, value in arguments.items() if value is not None},
            "pretrained_cfg": {
                **{key: known[key] for key in ("first_conv", "classifier", "fixed_input_size") if key in known},
                "num_classes": self.num_classes,
                "input_size": self.input_size,
                "crop_pct": 1.0,
                "mean": (0.0,) * channels,
                "std": (1.0,) * channels,
            },
        }

    def save_into(self, folder: Path) -> Path:
        """Write the document into a folder under its usual name, `model.json`, and return the file."""
        path = folder / self.file_name
        self.save(path)
        return path


Architecture = Genotype | TimmArchitecture


@functools.lru_cache
def _costs(architecture: TimmArchitecture) -> Costs:
    """Count what an architecture costs, once: for that, the network is built and runs on the device `meta`."""
    model = architecture.build(device="meta").eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model(torch.rand(1, *architecture.input_size, device="meta"))
    except TIMM_ERRORS as error:
        size = "x".join(map(str, architecture.input_size))
        raise DocumentError([f"cannot take images of {size}: {error}"], source=architecture.name) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Costs(parameters, counter.get_total_flops() // 2)


def build(architecture: Architecture, *, device: str | None = None) -> nn.Module:
    """Return the network, randomly initialised. Raises DocumentError if timm cannot build it."""
    if isinstance(architecture, TimmArchitecture):
        return architecture.build(device=device)
    with nullcontext() if device is None else torch.device(device):
        return compile(architecture)


def config_of(architecture: Architecture) -> dict[str, Any]:
    """Return the `config.json` by which timm loads a folder with weights of an architecture as local-dir:FOLDER."""
    return architecture.timm_config if isinstance(architecture, TimmArchitecture) else timm_config(architecture)


def costs(architecture: Architecture) -> Costs:
    """Return exact counts. Raises DocumentError if its images are too small for it."""
    if isinstance(architecture, TimmArchitecture):
        return architecture.costs()
    return Costs(blueprint.parameters(architecture), blueprint.multiply_adds(architecture))


def load_architecture(name: str | os.PathLike[str]) -> Architecture:
    """Load a spec by bundled name or path, a document of a timm model by path, or a model of timm by name.

    The folder of a training run has the architecture that was trained. Raises DocumentError.
    """
    name = fspath(name, "the name of an architecture or the path of a spec")
    path = Path(name)
    if (folder := run_folder(name)) is not None and (trained := from_run(folder)) is not None:
        return trained
    if path.suffix.lower() == ".json":
        data = parse_json(read_bytes(path), source=name)
        if isinstance(data, Mapping) and "model" in data:
            return TimmArchitecture.load(path)
    if name in spec_names() or path.suffix.lower() == ".json" or os.path.isfile(path):
        return load_spec(name)
    try:
        published = timm.models.get_pretrained_cfg(name) if (known := timm.is_model(name)) else None
    except RuntimeError:  # an unknown tag, which `is_model` does not look at
        known, published = False, None
    if not known:
        near = nearest(name, [*spec_names(), *BASELINES, *timm.list_models()])
        raise DocumentError([f"expected a spec or a model of timm{near}"], source=name)
    size = (3, 224, 224) if published is None else published.input_size
    classes = 1000 if published is None else published.num_classes
    return TimmArchitecture(model=name, num_classes=classes, input_size=size)


def from_run(folder: Path) -> Architecture | None:
    """Load the architecture that a training run wrote into its folder; None if there is none. Raises DocumentError."""
    for kind in (Genotype, TimmArchitecture):
        if os.path.isfile(folder / kind.file_name):
            return kind.load(folder / kind.file_name)
    return None
