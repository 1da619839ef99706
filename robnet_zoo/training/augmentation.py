"""Random changes to training images, all from the generator of an update."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.data import Images, PictureFiles
from robnet_zoo.training.recipe import Augmentation


def augmented(
    images: Images, indices: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return some of the images, changed at random, and their labels: (N, C, H, W) in [0, 1], (N,).

    Args:
        images: the training images.
        indices: which of them, (N,).
        augmentation: the recipe's. Picture files get a random resized crop instead of its `crop`.
        generator: of the random numbers.
    """
    if not isinstance(images.pixels, PictureFiles):
        clean, labels = images.batch(indices)
        return augment(clean, augmentation, generator), labels
    crops = images.pixels.random_crops(indices, generator).float().div_(255)
    return augment(crops, augmentation.model_copy(update={"crop": 0}), generator), images.labels[indices]


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop each zero-padded image at random, flip it at random, cut a square out: (N, C, H, W) -> (N, C, H, W).

    Args:
        images: (N, C, H, W).
        augmentation: the recipe's.
        generator: of the random numbers.
    """
    count, channels, height, width = images.shape
    if pad := augmentation.crop:
        padded = F.pad(images, (pad,) * 4)
        top, left = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
        rows = (top[:, None] + torch.arange(height))[:, None, :, None]  # (N, 1, H, 1)
        columns = (left[:, None] + torch.arange(width))[:, None, None, :]  # (N, 1, 1, W)
        images = padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]
    if augmentation.flip:
        flipped = torch.rand(count, generator=generator) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    if augmentation.cutout:
        images = images * ~_squares(images, augmentation.cutout, generator)
    return images


def _squares(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return a mask of a square around a random pixel of each image, bool (N, 1, H, W)."""
    count, _, height, width = images.shape
    row = torch.randint(0, height, (count, 1), generator=generator) - side // 2
    column = torch.randint(0, width, (count, 1), generator=generator) - side // 2
    rows, columns = torch.arange(height) - row, torch.arange(width) - column  # (N, H), (N, W)
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return inside[:, None]


def resize(images: Tensor, size: int) -> Tensor:
    """Return square images, (N, C, H, H), at `size` pixels a side, antialiased."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)
