"""Images to attack: the bundled digits, or what the page sends, an npz or a picture of any size."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.data import DataError, Images, PictureFiles, check_fits, digits, load
from robnet_zoo.data.pictures import decode
from robnet_zoo.editor.recent import Recent
from robnet_zoo.errors import EditorError
from robnet_zoo.reports.elements import Bytes
from robnet_zoo.reports.page import png

DIGITS = "digits"
SHOWN = 60  # pictures of a set that the page offers
THUMBNAIL = 96  # pixels a side
SIDE = 224  # of a picture for a model that takes any size
KEPT = 4  # sets that the page sent
MAX_NAME = 200  # bytes of the name of a file


@dataclass(frozen=True)
class Upload:
    """A file that the page sent: its name and its bytes."""

    name: str
    data: bytes

    @property
    def is_npz(self) -> bool:
        """Return whether the file is an archive, rather than a picture."""
        return self.data[:2] == b"PK"

    @property
    def _file_name(self) -> str:
        """Return the name as one that every file system takes, with its ending."""
        name = re.sub(r"[^\w.-]", "_", Path(self.name).name).strip(".")
        return name.encode()[-MAX_NAME:].decode(errors="ignore") or "picture"

    def images(self, *, side: int) -> Images:
        """Return the images of an archive, or the picture at `side` pixels a side, labelled 0. Raises DataError."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / self._file_name
            path.write_bytes(self.data)
            try:
                if self.is_npz:
                    return load(path)
                picture = decode(path)
                if picture.size == (side, side):
                    decoded = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
                else:
                    (decoded,) = PictureFiles(path.parent, (path.name,), side)
            except DataError as error:
                raise DataError(str(error).replace(f"{folder}/", "")) from error
        return Images(decoded[None], torch.zeros(1, dtype=torch.int64), path.name)


class Pictures:
    """The sets of images of one editor, by key: `digits`, or the hash of a file that the page sent."""

    def __init__(self) -> None:
        self.uploads: Recent[Upload] = Recent(KEPT)
        self.loaded: Recent[Images] = Recent(KEPT)

    def add(self, upload: Upload) -> str:
        """Keep a file, and return its key. Raises DataError if it is neither an npz of images nor a picture."""
        key = hashlib.sha256(upload.data).hexdigest()
        upload.images(side=THUMBNAIL)
        self.uploads.get(key, lambda: upload)
        return key

    def images(self, key: str, *, side: int = SIDE) -> Images:
        """Return the images of a key; a picture at `side` pixels a side. Raises EditorError if it is not kept."""
        return self.loaded.get((key, side), lambda: self._load(key, side))

    def _load(self, key: str, side: int) -> Images:
        if key == DIGITS:
            return digits()[1]
        return self._upload(key).images(side=side)

    def _upload(self, key: str) -> Upload:
        def missing() -> Upload:
            raise EditorError("expected pictures that were opened on this page; open the file again")

        return self.uploads.get(key, missing)

    def labelled(self, key: str) -> bool:
        """Return whether the images have labels of their own."""
        return key == DIGITS or self._upload(key).is_npz

    def thumbnails(self, key: str) -> list[dict[str, object]]:
        """Return the first images of a set as the page shows them, each with its label if it has one."""
        images = self.images(key, side=THUMBNAIL)
        pixels, labels = images.batch(slice(0, SHOWN))
        names = [_label(images, int(label)) if self.labelled(key) else None for label in labels]
        return [
            {"index": index, "png": png(_small(as_bytes(image))), "label": name}
            for index, (image, name) in enumerate(zip(pixels, names, strict=True))
        ]

    def chosen(self, key: str, index: int, target: Target) -> tuple[Tensor, int | None]:
        """Return an image that a target takes, (1, C, H, W) on its device, and its label if it has one.

        Args:
            key: of the set.
            index: of the image in its set.
            target: what it is for.

        Raises: DataError, EditorError.
        """
        size = target.input_size
        images = self.images(key, side=SIDE if size is None else size[1])
        if not 0 <= index < len(images):
            raise EditorError(f"expected the number of an image from 0 to {len(images) - 1}, got {index}")
        part = images[index : index + 1]
        if not self.labelled(key) and size is not None and size[0] == 1:
            grey = part.batch(slice(0, 1))[0].mean(1, keepdim=True)
            part = Images(grey.mul(255).round().byte(), part.labels, part.name)
        if size is not None:
            check_fits(part, input_size=size, num_classes=target.num_classes or 10**9)
        pixels, labels = part.batch(slice(0, 1))
        return pixels.to(target.device), int(labels[0]) if self.labelled(key) else None


def as_bytes(image: Tensor) -> Bytes:
    """Return an image in [0, 1] as a picture: (C, H, W) -> (H, W, 3), uint8. Other than three channels become grey."""
    channels = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    pixels: Bytes = channels.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


def _small(pixels: Bytes) -> Bytes:
    """Return a picture with some of its rows and columns left out, if it is large."""
    step = max(1, max(pixels.shape) // THUMBNAIL)
    return np.ascontiguousarray(pixels[::step, ::step])


def _label(images: Images, label: int) -> str:
    return images.classes[label] if label < len(images.classes) else str(label)
