"""Sources of images, by name: a file, a folder, a known data set in its folder, or `digits`."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from robnet_zoo.data.images import Images, check_sample
from robnet_zoo.data.pictures import PictureFiles, decode
from robnet_zoo.errors import DataError

IMAGENET_SIDE = 224
SIZED = re.compile(r"pictures-(\d{1,5})")
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
    name = os.fspath(source)
    kind, _, folder = name.partition(":")
    if name == "digits":
        images = digits()[0 if train else 1]
    elif kind in SETS:
        if train and not kind.endswith("-train"):
            raise DataError(f"{name}: expected images to train on, {kind.rpartition('-')[0]}-train:..., got others")
        images = SETS[kind](Path(folder or "data"))
    elif (sized := SIZED.fullmatch(kind)) and folder:
        images = _any_sizes(Path(folder), int(sized[1]))
    elif os.path.isdir(name):
        images = _folder(Path(name))
    elif os.path.isfile(name):
        images = _npz(Path(name))
    else:
        expected = "an .npz file, a folder of class folders, pictures-SIDE: and such a folder, or one of "
        expected += ", ".join((*SETS, "digits"))
        raise DataError(f"{name}: expected {expected}, got nothing there")
    if n is not None and not 0 < n <= len(images):
        raise DataError(f"{name}: expected n from 1 to {len(images)}, got {n}")
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
    from sklearn.datasets import load_digits

    data = load_digits()
    small = torch.from_numpy(data.images).float()[:, None] / 16  # (1797, 1, 8, 8)
    large = torch.nn.functional.interpolate(small, size=32, mode="bilinear", align_corners=False)
    pixels = large.mul(255).round().clamp(0, 255).byte().expand(-1, 3, -1, -1).contiguous()
    images = Images(pixels, torch.from_numpy(data.target).long(), "scikit-learn digits", tuple("0123456789"))
    return images[:1297], replace(images[1297:], name="scikit-learn digits, last 500")


def _npz(path: Path) -> Images:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = {"images", "labels"} - set(archive.files)
            if missing:
                present = ", ".join(archive.files) or "nothing"
                raise DataError(f"{path}: expected arrays `images` and `labels`, got {present}")
            images, labels = archive["images"], archive["labels"]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected an .npz archive of plain arrays, got one that cannot be read") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise DataError(f"{path}: expected `images` (N, H, W, 3) of uint8, got {images.shape} of {images.dtype}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(
            f"{path}: expected `labels` ({len(images)},) of integers from 0, got {labels.shape} of {labels.dtype}"
        )
    return _in_memory(images.transpose(0, 3, 1, 2), labels, path.name)


def _folder(path: Path) -> Images:
    files, labels, classes = _listed(path)
    pictures: list[np.ndarray] = []
    for file in files:
        pictures.append(np.asarray(decode(path / file)))
        if pictures[-1].shape != pictures[0].shape:
            first, this = pictures[0].shape[:2], pictures[-1].shape[:2]
            advice = f"to load all at one size, use pictures-SIDE:{path}"
            raise DataError(f"{path / file}: expected {first} pixels as in the first picture, got {this}; {advice}")
    return _in_memory(np.stack(pictures).transpose(0, 3, 1, 2), labels, path.name, classes)


def _any_sizes(path: Path, side: int) -> Images:
    if side < 1:
        raise DataError(f"pictures-{side}:{path}: expected at least 1 pixel a side")
    return _when_wanted(path, side, f"{path.name}, {side} pixels a side")


def _when_wanted(path: Path, side: int, name: str) -> Images:
    """Return pictures in class folders, decoded when they are used."""
    files, labels, classes = _listed(path)
    return Images(PictureFiles(path, tuple(files), side), torch.from_numpy(labels).long(), name, classes)


def _listed(path: Path, *, inside: str = "") -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Return (files below `path`, their labels, the classes), from one folder a class, with pictures in `inside` of it.

    The files are in a fixed random order, so that the first n and the last tenth hold every class.
    """
    classes = sorted(entry.name for entry in os.scandir(path) if entry.is_dir()) if path.is_dir() else []
    listed: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        folder = Path(name, inside)
        pictures = sorted((path / folder).glob("*")) if (path / folder).is_dir() else []
        kept = [str(folder / file.name) for file in pictures if file.suffix.lower() in PICTURES]
        if not kept:
            raise DataError(f"{path / folder}: expected pictures of the class {name}, got none")
        listed += [(file, label) for file in kept]
    if not listed:
        raise DataError(f"{path}: expected a folder of pictures for each class, got none or an empty one")
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(0)).tolist()
    return [listed[i][0] for i in order], np.array([listed[i][1] for i in order]), tuple(classes)


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
        expected = f"expected {title} there, whole and undamaged, or a network to fetch it"
        raise DataError(f"{folder}: {expected}, got: {error}") from error


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
