"""Bundled weights: safetensors files, and a manifest that says what each one is and what it was measured to be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.documents import Document, Tuple
from robnet_zoo.genotype import Genotype

FOLDER = Path(__file__).parent
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]


class WeightsError(RuntimeError):
    """Weights that are missing, damaged or another architecture's; one line that names the file and what to do."""


class Measured(Document):
    """Accuracies of a weights file, as fractions of n images; each measured by `robnet-zoo benchmark`."""

    data: str
    data_sha256: Sha256
    n: int
    seed: int
    eps: str
    clean: float
    fgsm: float
    pgd20: float
    device: str


class Entry(Document):
    """One weights file: `model`.`tag` is its name in timm."""

    model: str
    tag: str
    file: str
    sha256: Sha256
    spec_hash: Sha256
    recipe: str
    measured: Measured

    @property
    def path(self) -> Path:
        return FOLDER / self.file


class Manifest(Document):
    """The weights that this package brings."""

    schema_version: Literal[1] = 1
    entries: Tuple[Entry] = ()


def manifest() -> Manifest:
    """The manifest of the installed package."""
    return Manifest.load(FOLDER / "manifest.json")


def sha256(path: Path) -> str:
    """sha256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(entry: Entry, spec: Genotype) -> None:
    """Raise WeightsError unless the file is there, undamaged, and holds weights of this very architecture."""
    if entry.spec_hash != spec.hash:
        raise WeightsError(
            f"{entry.file}: expected weights of a spec with hash {spec.hash[:12]} ({spec.name}), "
            f"got those of {entry.spec_hash[:12]} ({entry.model})"
        )
    if not entry.path.is_file():
        raise WeightsError(f"{entry.path}: expected the weights of {entry.model}.{entry.tag}, got no file; reinstall")
    found = sha256(entry.path)
    if found != entry.sha256:
        raise WeightsError(f"{entry.path}: expected sha256 {entry.sha256[:12]}, got {found[:12]}: damaged; reinstall")
