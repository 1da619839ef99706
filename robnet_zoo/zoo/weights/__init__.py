"""Bundled weights: safetensors files, and a manifest that says what each one is and what it was measured to be.

In any folder, a manifest beside weights is authoritative: weights that differ from it are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.documents import Document, Tuple, called, problems_error, renamed, version
from robnet_zoo.core.files import file_sha256, note_shadowed
from robnet_zoo.core.units import Pixels, Share
from robnet_zoo.errors import WeightsError
from robnet_zoo.genotype.genotype import Genotype, Name

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z"), called("64 hex digits")]


class MeasuredAccuracies(Document):
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


class WeightsEntry(Document):
    """One weights file, whose name in timm is `model`.`tag`.

    file_sha256: of the file. state_sha256: of the state dict in it; results of these weights have it too.
    training_file_sha256: of the weights that training left, `TrainingResult.file_sha256`; the file differs from them
    where kernels are stored in float16. trained_on: `Images.sha256` of the training images. classes: the names of the
    classes, in the order of the logits. All but the first are None, or empty, where they are unknown.
    """

    model: Name
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*\z"), called("letters, digits, _ and -")]
    file: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors\z", description="beside the manifest"),
        called("the name of a .safetensors file"),
    ]
    file_sha256: Sha256
    state_sha256: Sha256 | None = None
    training_file_sha256: Sha256 | None = None
    spec_hash: Sha256
    recipe: str
    trained_on: Sha256 | None = None
    classes: Tuple[str] = ()
    measured: MeasuredAccuracies

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "sha256", "file_sha256")


class Manifest(Document):
    """The weights of a folder."""

    schema_version: Annotated[Literal[2], version(2, oldest=1)] = 2
    entries: Tuple[WeightsEntry] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = Counter(name for entry in self.entries for name in (f"{entry.model}.{entry.tag}", entry.file))
        repeated = [f"{name} appears {times} times" for name, times in names.items() if times > 1]
        if repeated:
            raise problems_error([(("entries",), text) for text in repeated])
        return self


def manifest(folder: Path = FOLDER) -> Manifest:
    """Load the manifest of a folder, by default of the bundled weights. Raises DocumentError."""
    return Manifest.load(folder / MANIFEST)


def entry_of(file: Path) -> WeightsEntry | None:
    """Return what the manifest beside a weights file says about it; None without a manifest or an entry."""
    if not (file.parent / MANIFEST).is_file():
        return None
    return next((entry for entry in manifest(file.parent).entries if entry.file == file.name), None)


def find(name: str | os.PathLike[str]) -> Path:
    """Return the file of bundled weights by name, `model.tag`; any other name is the path of a file."""
    files = {f"{entry.model}.{entry.tag}": entry.file for entry in manifest().entries}
    if str(name) not in files:
        return Path(name)
    if os.path.isfile(name):
        note_shadowed(str(name), taken="the bundled weights")
    return FOLDER / files[str(name)]


def state_sha256(state: Mapping[str, Any]) -> str:
    """Return the sha256 of a state dict's tensors, as 64 hex digits.

    Names, shapes and values as float32 count, so the hash is the same whatever file the tensors are stored in.
    """
    digest = hashlib.sha256()
    for key, value in sorted(_tensors(state.items()), key=itemgetter(0)):
        if not key.endswith("num_batches_tracked"):
            digest.update(f"{key} {tuple(value.shape)}".encode())
            value = value.detach().dequantize() if value.is_quantized else value.detach()
            digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensors(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state dict, also those that modules of 8 bits keep in tuples.

    What else modules keep is not part of the function.
    """
    from torch import Tensor

    for key, value in items:
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, tuple | list):
            yield from _tensors((f"{key}.{index}", part) for index, part in enumerate(value))


def check(entry: WeightsEntry, spec: Genotype, *, folder: Path = FOLDER) -> None:
    """Raise WeightsError unless the file is there, undamaged, and holds weights of this very architecture.

    Args:
        entry: the file's entry in the manifest.
        spec: the architecture.
        folder: the folder of the file, by default that of the bundled weights.
    """
    path = folder / entry.file
    if entry.spec_hash != spec.hash:
        raise WeightsError(
            f"{path}: expected weights of a spec with hash {spec.hash[:12]} ({spec.name}), "
            f"got those of {entry.spec_hash[:12]} ({entry.model})"
        )
    if not path.is_file():
        raise WeightsError(f"{path}: expected the weights of {entry.model}.{entry.tag}, got no file; reinstall")
    actual = file_sha256(path)
    if actual != entry.file_sha256:
        raise WeightsError(f"{path}: expected sha256 {entry.file_sha256[:12]}, got {actual[:12]}: damaged; reinstall")
