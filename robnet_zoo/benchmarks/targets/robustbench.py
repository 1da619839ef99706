"""Models of RobustBench's leaderboard, loaded by its package, which fetches and opens the weights."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from robnet_zoo.benchmarks.targets.torch import LOADING_ERRORS
from robnet_zoo.errors import TargetError


def robustbench_model(name: str, weights: Path | None = None) -> nn.Module:
    """Return a model of the leaderboard, which takes images in [0, 1].

    Args:
        name: `robustbench:NAME` or `robustbench:DATASET/THREAT/NAME`.
        weights: none can be given.

    Raises: TargetError if the name or the package is not what it should be, or weights are given.
    """
    if weights is not None:
        raise TargetError(f"{name}: RobustBench brings its weights, expected no others, got {weights}")
    prefix, _, path = name.partition(":")
    *conditions, model_name = path.split("/")
    if len(conditions) not in (0, 2):
        raise TargetError(f"{name}: expected {prefix}:NAME or {prefix}:DATASET/THREAT/NAME")
    dataset, threat = conditions or ("cifar10", "Linf")
    try:
        robustbench = importlib.import_module("robustbench.utils")
    except ImportError as error:
        raise TargetError(f"{name}: expected the package robustbench to be installed, got: {error}") from error
    try:
        model: nn.Module = robustbench.load_model(model_name=model_name, dataset=dataset, threat_model=threat)
    except LOADING_ERRORS as error:
        raise TargetError(f"{name}: RobustBench cannot load it: {type(error).__name__}: {error}") from error
    return model
