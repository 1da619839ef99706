"""Robust architectures as JSON genotypes, compiled to timm models, attacked, trained and exported.

Importing this package registers the models of `specs/` and the paper's comparison networks with timm, and does nothing
else. Names that need more than torch and timm are loaded when they are first used, the subpackages among them:
`robnet_zoo.attacks`, `.benchmarks`, `.converters`, `.data`, `.search` and `.training`.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from robnet_zoo.core import threads as _threads

if _threads.is_command(sys.orig_argv):
    _threads.bound_spin()  # before torch is imported, which reads it

from robnet_zoo.errors import RobnetZooError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, for_inference, for_training
from robnet_zoo.version import __version__
from robnet_zoo.zoo import load_architecture, load_model, load_spec, spec_names

if TYPE_CHECKING:
    from robnet_zoo.benchmarks.evaluation import evaluate
    from robnet_zoo.training.loop import train

__all__ = [
    # architectures
    "Genotype",
    "load_spec",
    "spec_names",
    "load_architecture",
    # networks
    "compile",
    "load_model",
    "for_inference",
    "for_training",
    # what is done with them
    "train",
    "evaluate",
    # the package
    "RobnetZooError",
    "__version__",
]

_LAZY = {"train": "robnet_zoo.training.loop", "evaluate": "robnet_zoo.benchmarks.evaluation"}
_SUBPACKAGES = frozenset({"attacks", "benchmarks", "converters", "data", "search", "training"})


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"robnet_zoo.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'robnet_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
