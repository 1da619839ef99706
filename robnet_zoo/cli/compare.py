"""`robnet-zoo compare`: is this exported file that model?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from robnet_zoo.cli.parameters import Json, Numbers, Quiet
from robnet_zoo.cli.starting import starting
from robnet_zoo.data.names import check_name

IMAGES = 128
TOLERANCE = 1e-4  # that of `robnet_zoo.benchmarks.likeness`, which imports torch


def compare(
    first: str,
    second: str,
    *,
    data: str,
    n: Annotated[int | None, Parameter(name=["-n"])] = None,
    tolerance: float = TOLERANCE,
    weights: Path | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    second_weights: Path | None = None,
    second_mean: Numbers = None,
    second_std: Numbers = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare two models: do they compute the same function, and if not, after which operator do they part?

    Ends with exit code 0 if their logits agree within the tolerance, and with 2 if they do not.

    Args:
        first: A timm name (robnet_micro.cifar10, resnet18), a folder that training left, an .onnx file
            (FILE.onnx:OUTPUT if several of its outputs could be logits), or with --weights the path of a spec.
        second: Another.
        data: An .npz, a folder of class folders, pictures-64:FOLDER, cifar10-test:FOLDER, or `digits`.
        n: Compare on the first n images; by default on 128, or on all if there are fewer.
        tolerance: The largest difference that counts as none, as a share of the largest logit (or of 1, if that is
            more); between values inside two graphs, as a share of the largest number of the value.
        weights: A safetensors file for the first, instead of its bundled weights.
        mean: What the first subtracts from each channel, if its document does not say so.
        std: What the first divides each channel by.
        second_weights: A safetensors file for the second, instead of its bundled weights.
        second_mean: What the second subtracts from each channel, if its document does not say so.
        second_std: What the second divides each channel by.
    """
    check_name(data)
    with starting(shown=not (quiet or as_json)):
        from robnet_zoo.benchmarks.likeness import compare_targets
        from robnet_zoo.benchmarks.targets.load import load_target
        from robnet_zoo.data import load as load_images

        mine = load_target(first, weights=weights, dtype="float32", mean=mean, std=std)
        other = load_target(second, weights=second_weights, dtype="float32", mean=second_mean, std=second_std)
        images = load_images(data, n=n) if n is not None else load_images(data)[:IMAGES]
    likeness = compare_targets(mine, other, images, tolerance=tolerance)
    if as_json or not quiet:
        print(likeness.model_dump_json(exclude_none=True) if as_json else likeness)
    if not likeness.same:
        sys.exit(2)
