"""Bundled weights: safetensors files, and a manifest that says what each one is and what it was measured to be.

Whatever folder weights lie in: a manifest beside them is believed, and they are refused if they differ from it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from robnet_zoo.core.documents import Document, Pixels, Share, Tuple, problems_error
from robnet_zoo.errors import WeightsError
from robnet_zoo.genotype.genotype import Genotype, Name

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


class Measured(Document):
    """Accuracies of a weights file, as shares of n images; each measured by `robnet-zoo benchmark`."""

    data: str
    data_sha256: Sha256
    n: Annotated[int, Field(ge=1)]
    seed: int
    eps: Pixels
    clean: Share
    fgsm: Share
    pgd20: Share
    device: str


class Entry(Document):
    """One weights file: `model`.`tag` is its name in timm. trained_on: `Images.sha256` of what, where it is known."""

    model: Name
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*\z")]
    file: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors\z", description="beside the manifest")
    ]
    sha256: Sha256
    spec_hash: Sha256
    recipe: str
    trained_on: Sha256 | None = None
    measured: Measured


class Manifest(Document):
    """The weights of a folder."""

    schema_version: Literal[1] = 1
    entries: Tuple[Entry] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = Counter(name for entry in self.entries for name in (f"{entry.model}.{entry.tag}", entry.file))
        repeated = [f"{name} stands {times} times" for name, times in names.items() if times > 1]
        if repeated:
            raise problems_error([(("entries",), text) for text in repeated])
        return self


def manifest(folder: Path = FOLDER) -> Manifest:
    """The manifest of a folder; by default of the weights that this package brings. Raises DocumentError."""
    return Manifest.load(folder / MANIFEST)


def entry_of(file: Path) -> Entry | None:
    """What the manifest beside a weights file says of it; None if there is none, or nothing about this file."""
    if not (file.parent / MANIFEST).is_file():
        return None
    return next((entry for entry in manifest(file.parent).entries if entry.file == file.name), None)


def find(name: str | os.PathLike[str]) -> Path:
    """The file of bundled weights by their name, `model.tag`; any other name is the path of a file."""
    known = {f"{entry.model}.{entry.tag}": entry.file for entry in manifest().entries}
    return FOLDER / known[str(name)] if str(name) in known else Path(name)


def sha256(path: Path) -> str:
    """sha256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(model: nn.Module) -> str:
    """sha256 of a model's state dict: names, shapes and values as float32, whatever file they came from."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        # Training steps, and what modules keep besides tensors, are no part of the function.
        if isinstance(value, Tensor) and not key.endswith("num_batches_tracked"):
            digest.update(f"{key} {tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check(entry: Entry, spec: Genotype, *, folder: Path = FOLDER) -> None:
    """Raise WeightsError unless the file is there, undamaged, and holds weights of this very architecture."""
    path = folder / entry.file
    if entry.spec_hash != spec.hash:
        raise WeightsError(
            f"{path}: expected weights of a spec with hash {spec.hash[:12]} ({spec.name}), "
            f"got those of {entry.spec_hash[:12]} ({entry.model})"
        )
    if not path.is_file():
        raise WeightsError(f"{path}: expected the weights of {entry.model}.{entry.tag}, got no file; reinstall")
    found = sha256(path)
    if found != entry.sha256:
        raise WeightsError(f"{path}: expected sha256 {entry.sha256[:12]}, got {found[:12]}: damaged; reinstall")
