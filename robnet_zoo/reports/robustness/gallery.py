"""The example images of documents."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from robnet_zoo.errors import ReportError
from robnet_zoo.reports.elements import Bytes, Gallery, Picture
from robnet_zoo.reports.robustness.labelled import LabelledResult

OF_EACH, OF_ALL = 3, 12  # examples shown


def gallery(entries: Sequence[LabelledResult]) -> Gallery | None:
    """Return the first examples of each document. Raises ReportError for one that is not a picture."""
    pictures = []
    for entry in entries:
        for example in entry.result.examples[:OF_EACH]:
            title = f"{entry.model}, {example.attack}, eps {entry.result.protocol.eps}, image {example.sample}"
            clean, adversarial = (_pixels(text, title) for text in (example.clean, example.adversarial))
            if clean.shape != adversarial.shape:
                raise ReportError(f"{title}: expected pictures of one size, got {clean.shape} and {adversarial.shape}")
            classes = entry.result.data.classes
            label, before, after = (
                classes[number] if number < len(classes) else f"class {number}"
                for number in (example.label, example.before, example.after)
            )
            pictures.append(Picture(clean, adversarial, label, before, after, title))
    total = sum(len(entry.result.examples) for entry in entries)
    shown = tuple(pictures[:OF_ALL])
    return Gallery(shown, total - len(shown)) if shown else None


def _pixels(text: str, title: str) -> Bytes:
    """Decode a PNG in base64 to (H, W, 3) uint8."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ReportError(f"{title}: expected a PNG in base64, got one that cannot be read") from error
