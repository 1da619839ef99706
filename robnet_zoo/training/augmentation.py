"""Random changes to training images, all from the generator of an update."""

from __future__ import annotations

from dataclasses import dataclass

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
    images = Moves.draw(len(images), augmentation, generator).moved(images)
    if augmentation.cutout:
        images = images * ~_squares(images, augmentation.cutout, generator).to(images.device)
    return images


@dataclass(frozen=True)
class Moves:
    """How some images are cropped and flipped.

    down, right: (N,), the pixels by which the crop lies below and to the right of the image. flipped: bool (N,),
    whether the crop is then flipped from left to right.
    """

    down: Tensor
    right: Tensor
    flipped: Tensor

    @classmethod
    def draw(cls, count: int, augmentation: Augmentation, generator: torch.Generator) -> Moves:
        """Draw the moves of some images.

        Args:
            count: how many images.
            augmentation: which moves there are.
            generator: of the random numbers; `augment` draws these first.
        """
        down = right = torch.zeros(count, dtype=torch.long)
        flipped = torch.zeros(count, dtype=torch.bool)
        if pad := augmentation.crop:
            down, right = torch.randint(0, 2 * pad + 1, (2, count), generator=generator) - pad
        if augmentation.flip:
            flipped = torch.rand(count, generator=generator) < 0.5
        return cls(down, right, flipped)

    def scaled(self, down: float, right: float) -> Moves:
        """Return the moves for images of another size, to the nearest pixel. down, right: that size, as a factor."""
        return Moves((self.down * down).round().long(), (self.right * right).round().long(), self.flipped)

    def moved(self, images: Tensor, *, outside: float = 0) -> Tensor:
        """Return the crops, (N, C, H, W) of any dtype. outside: the value of pixels beyond the image."""
        padded, index = self._padded(images, outside)
        return padded[index]

    def put_back(self, crops: Tensor, images: Tensor) -> Tensor:
        """Return images, (N, C, H, W), with the pixels of their crops, (N, C, H, W), where they came from."""
        padded, index = self._padded(images, 0)
        padded[index] = crops
        pad, (height, width) = self._reach, images.shape[2:]
        return padded[:, :, pad : pad + height, pad : pad + width]

    @property
    def _reach(self) -> int:
        return int(torch.stack([self.down, self.right]).abs().max())

    def _padded(self, images: Tensor, outside: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return a padded copy of the images, and where their crops lie in it."""
        count, channels, height, width = images.shape
        pad = self._reach
        rows = self.down[:, None] + pad + torch.arange(height)  # (N, H)
        columns = self.right[:, None] + pad + torch.arange(width)  # (N, W)
        columns = torch.where(self.flipped[:, None], columns.flip(1), columns)
        image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
        padded = images.new_full((count, channels, height + 2 * pad, width + 2 * pad), outside)
        padded[:, :, pad : pad + height, pad : pad + width] = images
        return padded, (image, channel, rows[:, None, :, None], columns[:, None, None, :])


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
