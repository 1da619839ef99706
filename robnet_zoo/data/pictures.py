"""Picture files as pixels: listed at once and decoded when they are used, for sets that do not fit into memory."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robnet_zoo.errors import DataError

MARGIN = 256 / 224  # the shorter side before a centre crop of 1: ImageNet's convention
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop (Szegedy et al., 2015)
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF", "GIF")  # not EPS, for which Pillow starts Ghostscript
BLOCK = 4096  # bytes
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of grey
# Pillow's ways to refuse a file, or to stumble over a damaged one.
READING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)
Box = tuple[float, float, float, float]  # left, top, right, bottom


def decode(file: Path) -> Image.Image:
    """Load a picture in RGB, 8 bits a channel; 16 bits of grey are rounded to 8.

    Raises DataError if the file is not a picture or is damaged, and where a pixel has no such value: for transparent
    pixels, animations, and numbers without a known range.
    """
    if not os.path.isfile(file):  # opening a pipe would wait for somebody to write into it
        raise DataError(f"{file}: expected the file of a picture, got none there")
    try:
        with Image.open(file, formats=FORMATS) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1 and picture.format != "MPO":  # which is a camera's photo with its previews
                raise DataError(f"{file}: expected a still picture, got an animation of {frames} frames")
            return _in_rgb(file, picture)
    except DataError:
        raise
    except READING_ERRORS as error:
        raise DataError(f"{file}: expected a picture that can be read ({', '.join(FORMATS)}), got: {error}") from error


def _in_rgb(file: Path, picture: Image.Image) -> Image.Image:
    if picture.mode in SIXTEEN_BITS or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        key = picture.info.get("transparency")
        grey = np.asarray(picture).astype(np.int64)
        if key is not None and (grey == key).any():
            raise _transparent(file)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 becomes 255
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise DataError(f"{file}: expected a picture of 8 or 16 bits a channel, got {kind}, whose range is not known")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    whole = picture.convert("RGBA")
    if np.asarray(whole)[..., 3].min() < 255:
        raise _transparent(file)
    return whole.convert("RGB")


def _transparent(file: Path) -> DataError:
    return DataError(f"{file}: expected an opaque picture, got transparent pixels; put it on a background first")


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """The pixels of picture files, (N, 3, side, side) uint8: indexed like a tensor, by slice, numbers or a mask.

    A slice is again files; numbers, (n,) int64, or a mask, (N,) bool, give a tensor: each picture resized so that its
    shorter side is `side` times 256/224, and cropped at the centre. Decoding uses a few threads.
    """

    root: Path
    files: tuple[str, ...]  # below root
    side: int
    threads: int = field(default=8, repr=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape of all pictures as a tensor, (N, 3, side, side)."""
        return (len(self.files), 3, self.side, self.side)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, part: slice | Tensor) -> PictureFiles | Tensor:
        if isinstance(part, slice):
            return replace(self, files=self.files[part])
        indices = torch.arange(len(self))[part]
        return self._decoded(indices.tolist(), [None] * len(indices))

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(len(self)):
            yield self._decoded([index], [None])[0]

    def random_crops(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return (n, 3, side, side), uint8: a random part of each picture (8 to 100 % of its area), resized."""
        draws = torch.rand(len(indices), 4, generator=generator).tolist()
        return self._decoded(indices.tolist(), draws)

    def digest(self) -> str:
        """Return the sha256 of each file's name, size and bytes: the first, middle and last 4,096, not a million whole
        pictures. Raises DataError for a file that cannot be read."""
        digest = hashlib.sha256(repr(self.side).encode())
        with ThreadPoolExecutor(self.threads) as pool:
            for part in pool.map(self._sampled, self.files):
                digest.update(part)
        return digest.hexdigest()

    def _sampled(self, name: str) -> bytes:
        """Return a file's name, its size and three blocks of its bytes."""
        try:
            with (self.root / name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                parts = [os.fsencode(f"{name}\0{size}\0")]
                for offset in sorted({0, max(size - BLOCK, 0) // 2, max(size - BLOCK, 0)}):
                    file.seek(offset)
                    parts.append(file.read(BLOCK))
        except OSError as error:
            raise DataError(f"{self.root / name}: expected a picture that can be read, got: {error}") from error
        return b"".join(parts)

    def _decoded(self, indices: Sequence[int], draws: Sequence[Sequence[float] | None]) -> Tensor:
        if not indices:
            return torch.empty(0, 3, self.side, self.side, dtype=torch.uint8)
        with ThreadPoolExecutor(self.threads) as pool:
            pictures = list(pool.map(self._picture, indices, draws))
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # (n, 3, side, side), channels innermost

    def _picture(self, index: int, draw: Sequence[float] | None) -> np.ndarray:
        picture = decode(self.root / self.files[index])
        box = _centre(picture.size) if draw is None else _random_part(picture.size, draw)
        small = picture.resize((self.side, self.side), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        return np.asarray(small)


def _centre(size: tuple[int, int]) -> Box:
    """Return the square in the middle whose side is 224/256 of the shorter one."""
    width, height = size
    side = min(width, height) / MARGIN
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def _random_part(size: tuple[int, int], draw: Sequence[float]) -> Box:
    """Return a part of 8 to 100 % of the area with sides like 3:4 to 4:3, cut down to what fits.

    draw: four numbers in [0, 1).
    """
    width, height = size
    area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * draw[0])
    ratio = math.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * draw[1])
    part_width, part_height = min(math.sqrt(area * ratio), width), min(math.sqrt(area / ratio), height)
    left, top = draw[2] * (width - part_width), draw[3] * (height - part_height)
    return (left, top, left + part_width, top + part_height)
