"""Labelled images.

Splitting is by a fixed rule, so that two runs never disagree about which images were held out: the last tenth is
validation, as in the 45,000 / 5,000 split of CIFAR-10's training images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.data.pictures import PictureFiles
from robnet_zoo.errors import DataError

VALIDATION_SHARE = 10  # one image in 10
MISSING = 1e-6  # a probability below which missing classes are not put down to chance
UNLIKE = 1e-4  # a probability below which other labels in a part are not
SHIFT = 0.05  # the share of a part's images of other classes than a sample has, below which it is taken as it is


@dataclass(frozen=True, eq=False)
class Images:
    """n labelled images; they stay bytes, or files, until they are used.

    pixels: (N, C, H, W), uint8. labels: (N,), int64. name: where they come from. classes: their names, if known.
    """

    pixels: Tensor | PictureFiles
    labels: Tensor
    name: str
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Images:
        return replace(self, pixels=self.pixels[part], labels=self.labels[part])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of each image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def count_classes(self, *, at_least: int = 1) -> int:
        """Return the number of class names; without names, the highest label plus 1, or `at_least` if that is more."""
        return len(self.classes) or max(at_least, int(self.labels.max()) + 1)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return some of the images, (N, C, H, W) in [0, 1], and their labels, (N,)."""
        if isinstance(self.pixels, PictureFiles) and isinstance(indices, slice):
            indices = torch.arange(len(self))[indices]  # a slice of files would be files again
        pixels = self.pixels[indices]
        assert isinstance(pixels, Tensor)
        return pixels.float().div_(255), self.labels[indices]

    def on(self, device: torch.device) -> Images:
        """Return the images with their pixels in the memory of a device, unless they are files."""
        return self if isinstance(self.pixels, PictureFiles) else replace(self, pixels=self.pixels.to(device))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def split(self) -> tuple[Images, Images]:
        """Return (training, validation): the last tenth is validation."""
        held_out = len(self) // VALIDATION_SHARE
        if not held_out:
            raise DataError(f"{self.name}: expected at least {VALIDATION_SHARE} images to split, got {len(self)}")
        return self[: len(self) - held_out], self[len(self) - held_out :]

    @cached_property
    def sha256(self) -> str:
        """Return the sha256 of shape, pixels (NCHW) and labels, for picture files of their names, sizes, parts of
        their bytes, and labels.

        It does not depend on the file that the images were read from.
        """
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        if isinstance(self.pixels, PictureFiles):
            digest.update(self.pixels.digest().encode())
        else:
            digest.update(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def check_labels(images: Images) -> None:
    """Raise DataError if a class has no images, unless there are so few images that this may be chance.

    Labels that count from 1 are the usual reason.
    """
    if int(images.labels.min()) < 0:
        raise DataError(f"{images.name}: expected labels from 0 on, got {int(images.labels.min())}")
    counts = torch.bincount(images.labels, minlength=len(images.classes))
    classes = len(counts)
    missing = (counts == 0).nonzero()[:, 0].tolist()
    if missing and _chance_of_missing(len(missing), classes=classes, images=len(images)) < MISSING:
        named = f"{missing[0]}" + (f" ({images.classes[missing[0]]})" if images.classes else "")
        named += f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        expected = f"expected images of each class from 0 to {classes - 1}"
        advice = "; do labels count from 1?" if missing == [0] else ""
        raise DataError(f"{images.name}: {expected}, got none of {named} among {len(images):,}{advice}")


def check_sample(part: Images, others: Images, *, called: str) -> None:
    """Raise DataError if the labels of a part are plainly not those of a random sample of the whole.

    A set that is sorted by class is the usual reason.

    Args:
        part: some of the images.
        others: all other images of the set.
        called: what the message calls the part.
    """
    if not len(part) or not len(others):
        return
    classes = 1 + max(int(part.labels.max()), int(others.labels.max()))
    counts, rest = (torch.bincount(images.labels, minlength=classes).double() for images in (part, others))
    shift = counts / len(part) - rest / len(others)
    if shift.abs().sum() / 2 < SHIFT or _evidence(counts, rest) < math.log(1 / UNLIKE):
        return
    label = int(shift.argmax())
    named = f"class {label}" + (f" ({part.classes[label]})" if part.classes else "")
    raise DataError(
        f"{part.name}: expected {called} to be a random sample of all, got {int(counts[label]):,} of {named} among "
        f"these {len(part):,} and {int(rest[label]):,} among the other {len(others):,}; are they sorted by class? Put "
        "images and labels into one random order"
    )


def _evidence(counts: Tensor, rest: Tensor) -> float:
    """Return the logarithm of how much better a part with class frequencies of its own explains its labels.

    It is compared with a part that is drawn at random, without replacement. By Markov's inequality, that one reaches
    log(x) with a probability of at most 1/x, for sets of any size.

    counts, rest: the images of each class in the part and in the rest, (K,) in float64.
    """
    whole = counts + rest
    drawn = _log_binomial(whole, counts).sum() - _log_binomial(whole.sum(), counts.sum())
    counts = counts[whole > 0]
    prior = torch.full_like(counts, 1 / len(counts))  # Dirichlet, with the weight of one image in all
    own = (torch.lgamma(counts + prior) - torch.lgamma(prior) - torch.lgamma(counts + 1)).sum()
    return float(own - drawn)


def _log_binomial(n: Tensor, k: Tensor) -> Tensor:
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)


def _chance_of_missing(missing: int, *, classes: int, images: int) -> float:
    """Return an upper bound of the probability that so many classes have no images, if labels are drawn evenly.

    Chernoff's bound, which holds for the empty ones of several bins (Dubhashi and Ranjan, Balls and bins, 1998).
    """
    mean = classes * (1 - 1 / classes) ** images
    if mean >= missing:
        return 1.0
    return math.exp(missing - mean + missing * (math.log(mean) - math.log(missing))) if mean else 0.0


def resized(images: Images, size: int) -> Images:
    """Return square images at `size` pixels a side, antialiased, as bytes; the same images if they have that size."""
    if images.shape[1:] == (size, size):
        return images
    if isinstance(images.pixels, PictureFiles):
        raise DataError(f"{images.name}: expected images in memory to bring to {size} pixels, got picture files")
    parts = [
        F.interpolate(part.float(), size=(size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        for part in images.pixels.split(1000)
    ]
    return replace(images, pixels=torch.cat(parts), name=f"{images.name} at {size} pixels")


def channels_advice(channels: int, expected: int) -> str:
    """Return what to do about images with too few or too many channels, as the end of a message; often nothing."""
    if (channels, expected) == (1, 3):
        return "; np.repeat(images, 3, axis=3) gives grey images three equal channels"
    if (channels, expected) == (3, 1):
        return "; images.mean(3, keepdims=True).round().astype(np.uint8) makes them grey"
    return ""


def check_fits(images: Images, *, input_size: tuple[int, int, int], num_classes: int) -> None:
    """Raise DataError unless a model of this input size and number of classes can be run on the images.

    Args:
        images: of any size.
        input_size: (channels, height, width) of the images that the model takes.
        num_classes: the number of the model's logits.
    """
    if images.shape != tuple(input_size):
        expected = f"expected images of (channels, height, width) {tuple(input_size)}"
        advice = channels_advice(images.shape[0], input_size[0])
        raise DataError(f"{images.name}: {expected}, got {images.shape}{advice}")
    check_within(images, num_classes=num_classes)


def check_within(images: Images, *, num_classes: int) -> None:
    """Raise DataError unless labels are from 0 to num_classes - 1."""
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= num_classes:
        advice = "; do they count from 1? labels - 1 counts from 0" if low == 1 and high == num_classes else ""
        got = f"{low} to {high}" if low < high else f"{low}"
        raise DataError(f"{images.name}: expected labels from 0 to {num_classes - 1}, got {got}{advice}")
