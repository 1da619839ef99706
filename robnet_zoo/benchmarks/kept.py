"""Adversarial images that lie beside a results document, for anyone to verify what it claims.

The file holds, for each attack of the document, `ATTACK.images`, (F, C, H, W) in float32, and `ATTACK.samples`, (F,):
the images that the model got right without attack and wrong under this one, and their places among all images.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from robnet_zoo.attacks import Attack
from robnet_zoo.attacks.ball import in_box, length, within
from robnet_zoo.attacks.continuous_batching import in_full_batch
from robnet_zoo.attacks.losses import is_right
from robnet_zoo.benchmarks.result import Measurement, Result
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.files import file_sha256, write_atomically
from robnet_zoo.data import Images
from robnet_zoo.errors import DataError, ResultError


@dataclass(frozen=True)
class Verified:
    """What became of the successes that a document claims for an attack.

    claimed: how many. refuted: the images whose kept image does not fool the model, or is not in the ball and the box.
    """

    attack: str
    claimed: int
    refuted: tuple[int, ...]


def kept_path(document: Path) -> Path:
    """Return where the images of a results document lie: `NAME.images.safetensors` beside `NAME.json`."""
    return document.with_name(f"{document.stem}.images.safetensors")


def packed(image: Tensor) -> str:
    """Return an image, (C, H, W), as a text that a journal can hold."""
    return base64.b64encode(image.detach().float().cpu().numpy().tobytes()).decode()


def save_kept(path: Path, entries: Iterable[Mapping[str, Any]], *, shape: Sequence[int]) -> str:
    """Write the images of a journal's entries to a file, and return its sha256.

    Args:
        path: the file, which is written atomically.
        entries: of all attacks and images; those without an image are passed over.
        shape: (C, H, W) of an image.
    """
    by_attack: dict[str, dict[int, Tensor]] = {}
    for entry in entries:
        if "image" in entry:
            pixels = np.frombuffer(base64.b64decode(entry["image"]), dtype=np.float32).reshape(shape)
            by_attack.setdefault(entry["attack"], {})[entry["sample"]] = torch.from_numpy(pixels.copy())
    tensors = {}
    for attack, images in by_attack.items():
        samples = sorted(images)
        tensors[f"{attack}.images"] = torch.stack([images[sample] for sample in samples])
        tensors[f"{attack}.samples"] = torch.tensor(samples)
    write_atomically(path, safetensors.torch.save(tensors))
    return file_sha256(path)


def load_kept(document: Path, result: Result) -> dict[str, dict[int, Tensor]]:
    """Return the kept images of a document by attack and sample, each (C, H, W).

    Args:
        document: where the document lies; the images are beside it.
        result: the document.

    Raises: ResultError if there are none, or they are not those that the document means.
    """
    path = kept_path(document)
    if result.images_sha256 is None:
        raise ResultError(f"{document}: expected a document of a run with --keep-images, got one without images")
    if not path.is_file() or file_sha256(path) != result.images_sha256:
        got = "another file" if path.is_file() else "none"
        raise ResultError(f"{path}: expected the images of {document.name} ({result.images_sha256[:12]}), got {got}")
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ResultError(f"{path}: expected a safetensors file, got: {error}") from error
    kept = {}
    for attack in result.protocol.attacks:
        images, samples = (tensors.pop(f"{attack.title}.{part}", torch.zeros(0)) for part in ("images", "samples"))
        if samples.ndim != 1 or len(images) != len(samples) or (len(images) and images.dtype != torch.float32):
            raise ResultError(f"{path}: {attack.title}: expected as many images in float32 as samples, got others")
        kept[attack.title] = dict(zip(map(int, samples.tolist()), images, strict=True))
    if tensors:
        raise ResultError(f"{path}: expected images of the protocol's attacks, got {', '.join(sorted(tensors))}")
    return kept


def verify(document: str | os.PathLike[str], target: Target, images: Images) -> list[Verified]:
    """Recompute every success that a document claims, from its kept images and the model.

    Args:
        document: the results document, with its images beside it.
        target: the model that it names.
        images: those that it was measured on, or more, of which they are the first.

    Returns: the outcome for each attack. Without attack, `clean`, a claim is that the model gets an image right.

    Raises: ResultError if the target, the data or the kept images are not the document's.
    """
    document = Path(document)
    result = Result.load(document)
    kept = load_kept(document, result)
    if (target.identity.weights, target.identity.mean, target.identity.std) != (
        result.model.weights,
        result.model.mean,
        result.model.std,
    ):
        expected = f"expected the model of the document, {result.model.name} ({result.model.weights[:12]})"
        raise ResultError(f"{target.name}: {expected}, got another ({target.identity.weights[:12]})")
    images = images[: result.data.n]
    if images.sha256 != result.data.sha256:
        expected = f"expected the images of the document, {result.data.name} ({result.data.sha256[:12]})"
        raise ResultError(f"{images.name}: {expected}, got others ({images.sha256[:12]})")
    clean = result.measurement("clean")
    right = [sample for sample, correct in enumerate(clean.correct) if correct]
    answered = _right(target, images, right, None, batch=result.protocol.batch)
    verified = [Verified("clean", len(right), tuple(sample for sample in right if not answered[sample]))]
    for attack in result.protocol.attacks:
        claimed = _claimed(clean, result.measurement(attack.title))
        if missing := sorted(set(claimed) - set(kept[attack.title])):
            shown = f"{len(missing)} of {len(claimed)} missing, the first of image {missing[0]}"
            raise ResultError(f"{kept_path(document)}: {attack.title}: expected every image claimed, got {shown}")
        verified.append(_verified(result, attack, claimed, kept[attack.title], target, images))
    return verified


def adversarial(document: str | os.PathLike[str], images: Images) -> Tensor:
    """Return the images of a document, (N, C, H, W) in float32: adversarial where an attack succeeded, else clean.

    Of several attacks that fooled the model on an image, the first counts.

    Args:
        document: the results document, with its images beside it.
        images: those that it was measured on, or more, of which they are the first.

    Raises: ResultError if the data or the kept images are not the document's.
    """
    document = Path(document)
    result = Result.load(document)
    kept = load_kept(document, result)
    images = images[: result.data.n]
    if images.sha256 != result.data.sha256:
        raise ResultError(f"{images.name}: expected the images of the document, {result.data.name}, got others")
    pixels, _ = images.batch(slice(None))
    for attack in reversed(result.protocol.attacks):
        for sample, image in kept[attack.title].items():
            if not 0 <= sample < len(pixels) or image.shape != pixels[0].shape:
                raise ResultError(f"{kept_path(document)}: {attack.title}: image {sample} does not fit the data")
            pixels[sample] = image
    return pixels


def _claimed(clean: Measurement, attacked: Measurement) -> list[int]:
    outcomes = zip(clean.correct, attacked.correct, strict=True)
    return [sample for sample, (before, after) in enumerate(outcomes) if before and not after]


def _verified(
    result: Result, attack: Attack, claimed: Sequence[int], kept: Mapping[int, Tensor], target: Target, images: Images
) -> Verified:
    if not claimed:
        return Verified(attack.title, 0, ())
    pixels = torch.stack([kept[sample] for sample in claimed])
    if pixels.shape[1:] != torch.Size(images.shape):
        expected = f"expected images {tuple(images.shape)}, got {tuple(pixels.shape[1:])}"
        raise ResultError(f"{result.model.name}: {attack.title}: {expected}")
    clean, _ = images.batch(torch.tensor(claimed))
    inside = within(length(pixels - clean, attack.ball), result.protocol.eps_value) & in_box(pixels)
    right = _right(target, images, claimed, pixels, batch=result.protocol.batch)
    refuted = [sample for sample, held in zip(claimed, inside.tolist(), strict=True) if not held or right[sample]]
    return Verified(attack.title, len(claimed), tuple(refuted))


def _right(
    target: Target, images: Images, samples: Sequence[int], shown: Tensor | None, *, batch: int
) -> dict[int, bool]:
    """Return which images the target gets right. shown: what it sees of them, by default the images themselves."""
    right: dict[int, bool] = {}
    for start in range(0, len(samples), batch):
        some = samples[start : start + batch]
        pixels, labels = images.batch(torch.tensor(some))
        if shown is not None:
            pixels = shown[start : start + batch]
        logits = in_full_batch(target.judge, pixels.to(target.device), batch)
        right |= zip(some, is_right(logits, labels.to(logits.device)).tolist(), strict=True)
    return right


def check_keeping(output: Path | None, *, sharded: bool) -> None:
    """Raise DataError unless images can be kept: beside a document, of a run that is not split."""
    if output is None:
        raise DataError("expected an output beside which adversarial images are kept, got none")
    if sharded:
        raise DataError(f"{output}: expected a run that is not split into shards to keep its images, got a shard")
