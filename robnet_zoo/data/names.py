"""The names of images, read without torch, so that a wrong one is refused at once."""

from __future__ import annotations

import os
import re

from robnet_zoo.core.documents import nearest
from robnet_zoo.errors import DataError

DIGITS = "digits"
SIZED = re.compile(r"pictures-(\d{1,5})")
DATA_SETS = (
    "cifar10-train",
    "cifar10-test",
    "cifar100-train",
    "cifar100-test",
    "svhn-train",
    "svhn-test",
    "tiny-imagenet-train",
    "tiny-imagenet-val",
    "imagenet-train",
    "imagenet-val",
)


def check_name(name: str, *, train: bool = False) -> None:
    """Raise DataError if a name is that of no images, or of a test part where images to train on are wanted.

    Nothing is opened: whether the images are whole shows when they are loaded.
    """
    kind, _, folder = name.partition(":")
    if kind in DATA_SETS:
        if train and not kind.endswith("-train"):
            raise DataError(f"{name}: expected images to train on, {kind.rpartition('-')[0]}-train:..., got others")
        return
    if name == DIGITS or (folder and SIZED.fullmatch(kind)) or os.path.isdir(name) or os.path.isfile(name):
        return
    near = nearest(kind, (*DATA_SETS, DIGITS))
    advice = near if "did you mean" in near else ""
    got = "something else" if os.path.lexists(name) else "nothing there"
    raise DataError(f"{name}: expected an .npz, a folder of class folders or a known data set, got {got}{advice}")
