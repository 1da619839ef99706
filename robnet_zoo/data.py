"""Labelled images as tensors: an npz, a folder of pictures a class, or torchvision's CIFAR-10.

Images stay bytes until they are used; `Images.batch` gives them in [0, 1]. Splitting is by a fixed rule, so that two
runs never disagree about which images were held out: the last tenth is validation, as in the 45,000 / 5,000 split of
CIFAR-10's training images.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

VALIDATION_SHARE = 10  # one in so many
TORCHVISION = ("cifar10-train", "cifar10-test")


class DataError(ValueError):
    """Data that is missing, unreadable or not labelled images; one line that names the file and what was expected."""


@dataclass(frozen=True, eq=False)
class Images:
    """n labelled images.

    pixels: (N, C, H, W), uint8. labels: (N,), int64. name: where they come from. classes: their names, if known.
    """

    pixels: Tensor
    labels: Tensor
    name: str
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Images:
        return replace(self, pixels=self.pixels[part], labels=self.labels[part])

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """((N, C, H, W) in [0, 1], (N,)) of some of the images."""
        return self.pixels[indices].float().div_(255), self.labels[indices]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def split(self) -> tuple[Images, Images]:
        """(training, validation): the last tenth is validation."""
        held_out = len(self) // VALIDATION_SHARE
        if not held_out:
            raise DataError(f"{self.name}: expected at least {VALIDATION_SHARE} images to split, got {len(self)}")
        return self[: len(self) - held_out], self[len(self) - held_out :]

    @cached_property
    def sha256(self) -> str:
        """sha256 of shape, pixels (NCHW) and labels, whatever file they were read from."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def load(source: str | os.PathLike[str], *, n: int | None = None, train: bool = False) -> Images:
    """Labelled images, the first n of them if n is given.

    source: an .npz with `images` (N, H, W, C) uint8 and `labels` (N,) integers; a folder with a subfolder of pictures
    for each class, which is read in a fixed random order; `cifar10-train:FOLDER` or `cifar10-test:FOLDER`, which
    torchvision downloads into FOLDER if it is not there yet; `digits`, whose training scans `train` asks for instead of
    the test ones. Raises DataError.
    """
    name = os.fspath(source)
    kind, _, folder = name.partition(":")
    if name == "digits":
        images = digits()[0 if train else 1]
    elif kind in TORCHVISION:
        images = _torchvision_cifar10(folder or "data", train=kind == "cifar10-train")
    elif os.path.isdir(name):
        images = _folder(Path(name))
    elif os.path.isfile(name):
        images = _npz(Path(name))
    else:
        expected = f"an .npz file, a folder of class folders, or one of {', '.join((*TORCHVISION, 'digits'))}"
        raise DataError(f"{name}: expected {expected}, found nothing there")
    if n is not None and not 0 < n <= len(images):
        raise DataError(f"{name}: expected n from 1 to {len(images)}, got {n}")
    return images if n is None else images[:n]


def check_fits(images: Images, *, input_size: tuple[int, int, int], num_classes: int) -> None:
    """Raise DataError unless a model of this input size and number of classes can be run on the images."""
    if tuple(images.pixels.shape[1:]) != tuple(input_size):
        raise DataError(
            f"{images.name}: expected images of (channels, height, width) {tuple(input_size)}, "
            f"got {tuple(images.pixels.shape[1:])}"
        )
    if int(images.labels.max()) >= num_classes:
        raise DataError(f"{images.name}: expected labels from 0 to {num_classes - 1}, got {int(images.labels.max())}")


def digits() -> tuple[Images, Images]:
    """scikit-learn's handwritten digits as (training, test) 32x32 RGB images: 1,297 and 500 real scans.

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
                found = ", ".join(archive.files) or "nothing"
                raise DataError(f"{path}: expected arrays `images` and `labels`, got {found}")
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
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Images(pixels, torch.from_numpy(labels.astype(np.int64)), path.name)


def _folder(path: Path) -> Images:
    from PIL import Image, UnidentifiedImageError
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a folder of pictures for each class, got none or an empty one") from error
    # A folder lists class after class; in a fixed random order, the first n and the last tenth hold every class.
    order = torch.randperm(len(listing.samples), generator=torch.Generator().manual_seed(0)).tolist()
    samples = [listing.samples[index] for index in order]
    pictures = []
    for file, _ in samples:
        try:
            with Image.open(file) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{file}: expected a picture, got one that cannot be read") from error
        if pictures[-1].shape != pictures[0].shape:
            first, this = pictures[0].shape[:2], pictures[-1].shape[:2]
            raise DataError(f"{file}: expected {first} pixels as in the first picture, got {this}")
    pixels = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())
    return Images(pixels, torch.tensor([label for _, label in samples]), path.name, tuple(listing.classes))


def _torchvision_cifar10(folder: str, *, train: bool) -> Images:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(folder, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{folder}: expected CIFAR-10 there or a network to fetch it, got: {error}") from error
    pixels = torch.from_numpy(data.data.transpose(0, 3, 1, 2).copy())
    name = "CIFAR-10 training images" if train else "CIFAR-10 test images"
    return Images(pixels, torch.tensor(data.targets), name, tuple(data.classes))
