"""Labelled images in [0, 1]: files, folders and known data sets, split by a fixed rule."""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy
from robnet_zoo.errors import DataError

if TYPE_CHECKING:
    from robnet_zoo.data.images import VALIDATION_SHARE, Images, check_fits, check_labels, check_sample, resized
    from robnet_zoo.data.pictures import PictureFiles
    from robnet_zoo.data.sources import data_sets, digits, load

__all__ = [
    "VALIDATION_SHARE",
    "DataError",
    "Images",
    "PictureFiles",
    "check_fits",
    "check_labels",
    "check_sample",
    "data_sets",
    "digits",
    "load",
    "resized",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".images": ("VALIDATION_SHARE", "Images", "check_fits", "check_labels", "check_sample", "resized"),
        ".pictures": ("PictureFiles",),
        ".sources": ("data_sets", "digits", "load"),
    },
)
