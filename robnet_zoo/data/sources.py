"""Sources of images, by name: a file, a folder, a known data set in its folder, or `digits`."""

from __future__ import annotations

import logging
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import distribution
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import torch
from filelock import FileLock

from robnet_zoo.core.documents import fspath
from robnet_zoo.core.files import note_shadowed
from robnet_zoo.core.units import LEVELS
from robnet_zoo.data.images import Images, check_sample
from robnet_zoo.data.names import DIGITS, SIZED, check_name
from robnet_zoo.data.pictures import PictureFiles, decode
from robnet_zoo.errors import DataError, printable

IMAGENET_SIDE = 224
MAX_CLASSES = 1_000_000  # labels above are mistakes, and whatever is counted for each class would fill the memory
MAX_DEFLATION = 1032  # bytes that DEFLATE can make of one
NPZ_ERRORS = (  # a file's, the archive's, an array's; NotImplementedError and the want of a password are RuntimeErrors
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
TOOLS = ("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp")


def load(source: str | os.PathLike[str], *, n: int | None = None, train: bool = False) -> Images:
    """Load labelled images, the first n of them if n is given.

    Args:
        source: an .npz with `images` (N, H, W, C) uint8 and `labels` (N,) integers; a folder with a subfolder of
            pictures for each class, which is read in a fixed random order; `pictures-SIDE:FOLDER`, such a folder with
            pictures of any sizes, decoded at SIDE pixels a side when they are used (`PictureFiles`); a known data set
            and its folder, such as `cifar10-test:FOLDER` (`data_sets()` lists them; torchvision downloads CIFAR and
            SVHN if they are not there yet); or `digits`.
        n: how many images, by default all.
        train: whether the images are for training: of `digits`, the training scans are then loaded instead of the test
            scans, and the test part of a known data set is refused.

    Raises: DataError if there are no such images, or fewer than n, or if the first n are plainly not a sample of all.
    """
    name = fspath(source, "the name or the path of images", error=DataError)
    check_name(name, train=train)
    kind, _, folder = name.partition(":")
    sized = SIZED.fullmatch(kind) if folder else None
    if (name == DIGITS or kind in SETS or sized) and os.path.lexists(name):
        note_shadowed(name, taken="the data set")
    if name == DIGITS:
        images = digits()[0 if train else 1]
    elif kind in SETS:
        images = SETS[kind](Path(folder or "data"))
    elif sized:
        images = _any_sizes(Path(folder), int(sized[1]))
    elif os.path.isdir(name):
        images = _folder(Path(name))
    else:
        images = _npz(Path(name))
    if n is not None and not (type(n) is int and 0 < n <= len(images)):
        raise DataError(f"{name}: expected n from 1 to {len(images)}, an integer, got {n!r}")
    if n is None:
        return images
    check_sample(images[:n], images[n:], called=f"the first {n:,} images")
    return images[:n]


def data_sets() -> tuple[str, ...]:
    """Return the known data sets, each as `NAME:FOLDER` for `load`."""
    return tuple(SETS)


def digits() -> tuple[Images, Images]:
    """Return scikit-learn's handwritten digits as (training, test) 32x32 RGB images: 1,297 and 500 real scans.

    The 8x8 scans are enlarged fourfold, bilinearly, and repeated over the three channels.
    """
    scans, labels = _scans()
    small = scans[:, None] / 16  # (1797, 1, 8, 8)
    large = torch.nn.functional.interpolate(small, size=32, mode="bilinear", align_corners=False)
    pixels = large.mul(255).round().clamp(0, 255).byte().expand(-1, 3, -1, -1).contiguous()
    images = Images(pixels, labels.clone(), "scikit-learn digits", tuple("0123456789"))
    return images[:1297], replace(images[1297:], name="scikit-learn digits, last 500")


@cache
def _scans() -> tuple[torch.Tensor, torch.Tensor]:
    """Return scikit-learn's scans (1797, 8, 8), from 0 to 16, and labels (1797,), read once: they are text.

    The file is read without the package, whose import takes seconds.
    """
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(path), delimiter=",", dtype=np.int64)  # (1797, 65)
    return torch.from_numpy(rows[:, :-1]).float().view(-1, 8, 8), torch.from_numpy(rows[:, -1]).clone()


def _npz(path: Path) -> Images:
    """Load the arrays of an .npz. Their headers are checked before anything of the sizes that they claim is made."""
    try:
        with zipfile.ZipFile(path) as archive:
            present = [file.filename.removesuffix(".npy") for file in archive.infolist()]
            if not {"images", "labels"} <= set(present):
                got = ", ".join(map(printable, present[:6])) or "nothing"
                raise DataError(f"{path}: expected arrays `images` and `labels`, got {got}")
            (shape, dtype), (count, integers) = (_header(path, archive, name) for name in ("images", "labels"))
            if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or min(shape) < 1:
                advice = _remedy(archive, shape, dtype)
                expected = "expected `images` (N, H, W, 3) with pixels, of uint8"
                raise DataError(f"{path}: {expected}, got {shape} of {dtype}{advice}")
            if count != shape[:1] or integers.kind not in "iu":
                raise DataError(
                    f"{path}: expected `labels` ({shape[0]},) of integers from 0, got {count} of {integers}"
                )
            images, labels = (_array(archive, name) for name in ("images", "labels"))
    except DataError:
        raise
    except NPZ_ERRORS as error:
        raise DataError(f"{path}: expected an .npz archive of plain arrays, got one that cannot be read") from error
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        got = f"got {low if low < 0 else high}"
        raise DataError(f"{path}: expected `labels` of integers from 0 to {MAX_CLASSES - 1}, {got}")
    return _in_memory(images.transpose(0, 3, 1, 2), labels, printable(path.name))


def _remedy(archive: zipfile.ZipFile, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return how an array of other axes or of floating-point numbers becomes pixels, for the end of a message."""
    pixels = "images"
    if dtype.kind == "f" and 0 not in shape:
        numbers = _array(archive, "images")
        low, high = float(numbers.min()), float(numbers.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return ", not all of them finite"
        if low < 0 or high > LEVELS:
            return f" from {low:.3g} to {high:.3g}; take the pixels before they were normalised"
        pixels = "(images * 255).round().astype(np.uint8)" if high <= 1 else "images.round().astype(np.uint8)"
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        pixels += ".transpose(0, 2, 3, 1)"
    return f"; {pixels} makes them so" if pixels != "images" else ""


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of an array. Raises DataError if the archive does not hold as much as they claim."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise DataError(f"{path}: expected `{name}` of numbers, got pickled objects, which cannot be read safely")
        if min(shape, default=0) < 0:
            raise DataError(f"{path}: expected `{name}` of a size from 0 on, got {shape}")
        claimed = file.tell() + math.prod(shape) * dtype.itemsize
    if claimed != member.file_size or claimed > MAX_DEFLATION * (member.compress_size + 1):
        expected = f"expected `{name}` of {claimed:,} bytes, as its header claims"
        raise DataError(f"{path}: {expected}, got an archive without them")
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _folder(path: Path) -> Images:
    files, labels, classes = _listed(path)
    pictures: list[np.ndarray] = []
    for file in files:
        pictures.append(np.asarray(decode(path / file)))
        if pictures[-1].shape != pictures[0].shape:
            first, this = pictures[0].shape[:2], pictures[-1].shape[:2]
            advice = f"to load all at one size, use pictures-SIDE:{path}"
            raise DataError(f"{path / file}: expected {first} pixels as in the first picture, got {this}; {advice}")
    return _in_memory(np.stack(pictures).transpose(0, 3, 1, 2), labels, printable(path.name), classes)


def _any_sizes(path: Path, side: int) -> Images:
    if side < 1:
        raise DataError(f"pictures-{side}:{path}: expected at least 1 pixel a side")
    return _when_wanted(path, side, f"{printable(path.name)}, {side} pixels a side")


def _when_wanted(path: Path, side: int, name: str) -> Images:
    """Return pictures in class folders, decoded when they are used."""
    files, labels, classes = _listed(path)
    return Images(PictureFiles(path, tuple(files), side), torch.from_numpy(labels).long(), name, classes)


def _listed(path: Path, *, inside: str = "") -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Return (files below `path`, their labels, the classes), from one folder a class, with pictures in `inside` of it.

    The files are in a fixed random order, so that the first n and the last tenth hold every class.
    """
    entries = _entries(path)
    classes = [name for name, kind in entries.items() if kind == "folder"]
    ignored = [name for name in entries if name not in classes]
    listed: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        folder = Path(name, inside)
        files = [(str(folder / file), kind) for file, kind in _entries(path / folder).items()]
        kept = [file for file, kind in files if kind == "file" and Path(file).suffix.lower() in PICTURES]
        if not kept:
            raise DataError(f"{path / folder}: expected pictures of the class {printable(name)}, got none")
        listed += [(file, label) for file in kept]
        ignored += sorted({file for file, _ in files}.difference(kept))
    if listed and ignored:
        examples = ", ".join(map(printable, ignored[:3])) + (f" and {len(ignored) - 3:,} more" if ignored[3:] else "")
        text = f"{path}: passed over {examples}, as only {', '.join(PICTURES)} files in a class's folder are read"
        logging.getLogger(__name__).warning("%s", text)
    if not listed:
        raise DataError(f"{path}: expected a folder of pictures for each class, got none or an empty one")
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(0)).tolist()
    return [listed[i][0] for i in order], np.array([listed[i][1] for i in order]), tuple(map(printable, classes))


def _entries(path: Path) -> dict[str, Literal["folder", "file", "other"]]:
    """Return the kinds of what a folder holds by name, sorted; what is hidden or a tool's own is "other"."""
    if not os.path.isdir(path):
        return {}
    try:
        with os.scandir(path) as entries:
            return {entry.name: _kind(entry) for entry in sorted(entries, key=lambda entry: entry.name)}
    except OSError as error:
        raise DataError(f"{path}: expected a folder that can be read, got: {error}") from error


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "other"]:
    if entry.name.startswith(".") or entry.name in TOOLS:
        return "other"
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:  # a link that leads to itself
        return "other"


def _in_memory(pixels: np.ndarray, labels: Any, name: str, classes: tuple[str, ...] = ()) -> Images:
    """Return images from pixels (N, C, H, W) and labels (N,)."""
    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    return Images(whole, torch.from_numpy(np.asarray(labels).astype(np.int64)), name, classes)


def _cifar(folder: Path, *, kind: str, title: str, train: bool) -> Images:
    from torchvision import datasets

    other = "test_list" if train else "train_list"  # whose files torchvision would open too, to check them
    reader = type(kind, (getattr(datasets, kind),), {other: []})
    data = _fetched(lambda: reader(folder, train=train, download=True), folder, title)
    name = f"{title} {'training' if train else 'test'} images"
    return _in_memory(data.data.transpose(0, 3, 1, 2), data.targets, name, tuple(data.classes))


def _svhn(folder: Path, *, train: bool) -> Images:
    from torchvision import datasets

    part = "train" if train else "test"
    data = _fetched(lambda: datasets.SVHN(str(folder), split=part, download=True), folder, "SVHN")
    return _in_memory(data.data, data.labels, f"SVHN {'training' if train else 'test'} images", tuple("0123456789"))


def _fetched(fetch: Callable[[], Any], folder: Path, title: str) -> Any:
    try:
        with _alone(folder):
            return fetch()
    except (OSError, RuntimeError) as error:
        expected = f"expected {title} there as torchvision keeps it, whole and undamaged, or a network to fetch it"
        got = f"no network: {error.reason}" if isinstance(error, URLError) else str(error)
        advice = "images of your own can be an npz or a folder of pictures"
        raise DataError(f"{folder}: {expected}, got {got}; {advice}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes, such as those of torchrun, from fetching into a folder, unless it is read-only."""
    with ExitStack() as held:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".fetching"))
        yield


def _tiny_imagenet(folder: Path, *, train: bool) -> Images:
    """Load tiny-imagenet-200: train/CLASS/images/*.JPEG, or val/images/*.JPEG and val/val_annotations.txt."""
    name = f"Tiny-ImageNet {'training' if train else 'validation'} images"
    classes = tuple(sorted(_text(folder / "wnids.txt").split()))
    if train:
        files, labels, folders = _listed(folder / "train", inside="images")
        if folders != classes:
            strange = min(set(folders) ^ set(classes))
            expected = f"expected a folder for each of the {len(classes)} classes of wnids.txt"
            raise DataError(f"{folder / 'train'}: {expected}, got {len(folders)}; {strange} is in only one of the two")
        return _stacked(folder / "train", files, labels, name, classes)
    listing = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in _text(listing).splitlines()]
    number = {name: label for label, name in enumerate(classes)}
    if not rows or any(len(row) < 2 or row[1] not in number for row in rows):
        raise DataError(f"{listing}: expected lines of file, tab, class of wnids.txt, got others")
    labels = np.array([number[row[1]] for row in rows])
    return _stacked(folder / "val" / "images", [row[0] for row in rows], labels, name, classes)


def _text(path: Path) -> str:
    """Return the text of a file that belongs to a data set, such as the list of its classes."""
    if not os.path.isfile(path):  # opening a pipe would wait for somebody to write into it
        raise DataError(f"{path}: expected a text file of the data set, got none there")
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a text file of the data set, got: {error}") from error


def _stacked(root: Path, files: list[str], labels: np.ndarray, name: str, classes: tuple[str, ...]) -> Images:
    """Load pictures of 64x64 pixels into memory: 100,000 of them are 1.2 GB."""
    pictures = []
    for file in files:
        picture = np.asarray(decode(root / file))
        if picture.shape != (64, 64, 3):
            raise DataError(f"{root / file}: expected 64x64 pixels, got {picture.shape[0]}x{picture.shape[1]}")
        pictures.append(picture)
    return _in_memory(np.stack(pictures).transpose(0, 3, 1, 2), labels, name, classes)


def _imagenet(folder: Path, *, train: bool) -> Images:
    """Load ImageNet from folders as torchvision and timm want them: train/CLASS/*.JPEG and val/CLASS/*.JPEG."""
    part = folder / ("train" if train else "val")
    return _when_wanted(part, IMAGENET_SIDE, f"ImageNet {'training' if train else 'validation'} images")


SETS: Mapping[str, Callable[[Path], Images]] = MappingProxyType(
    {
        f"{name}-{part}": partial(reader, train=part == "train")
        for name, rest, reader in (
            ("cifar10", "test", partial(_cifar, kind="CIFAR10", title="CIFAR-10")),
            ("cifar100", "test", partial(_cifar, kind="CIFAR100", title="CIFAR-100")),
            ("svhn", "test", _svhn),
            ("tiny-imagenet", "val", _tiny_imagenet),
            ("imagenet", "val", _imagenet),
        )
        for part in ("train", rest)
    }
)
