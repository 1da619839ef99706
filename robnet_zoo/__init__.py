"""Robust architectures as JSON genotypes, compiled to timm models, attacked, trained and exported.

Importing this package registers the models of `specs/` and the paper's comparison networks with timm, and does nothing
else. Its names are loaded when they are first used, the subpackages among them: `robnet_zoo.attacks`, `.benchmarks`,
`.converters`, `.data`, `.search` and `.training`. All errors are in `robnet_zoo.errors`. In a process of the
`robnet-zoo` command, the models are registered by what needs them, as much of the command needs neither torch nor timm.
"""

import sys
from typing import TYPE_CHECKING

from robnet_zoo.core import lazy as _lazy
from robnet_zoo.core import threads as _threads
from robnet_zoo.errors import RobnetZooError
from robnet_zoo.version import __version__

if TYPE_CHECKING:
    from robnet_zoo.benchmarks.evaluation import evaluate
    from robnet_zoo.genotype.genotype import Genotype
    from robnet_zoo.genotype.specs import load_spec, spec_names
    from robnet_zoo.nn.compiler import compile, for_inference, for_training
    from robnet_zoo.training.loop import train
    from robnet_zoo.zoo.architecture import load_architecture
    from robnet_zoo.zoo.registry import load_model

if _threads.is_command(sys.orig_argv):
    _threads.bound_spin()  # before torch is imported, which reads it
else:
    from robnet_zoo.zoo import baselines as _baselines  # noqa: F401  # registers its models
    from robnet_zoo.zoo import registry as _registry  # noqa: F401  # registers its models

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

__getattr__, __dir__ = _lazy.face(
    __name__,
    {
        ".benchmarks.evaluation": ("evaluate",),
        ".genotype.genotype": ("Genotype",),
        ".genotype.specs": ("load_spec", "spec_names"),
        ".nn.compiler": ("compile", "for_inference", "for_training"),
        ".training.loop": ("train",),
        ".zoo.architecture": ("load_architecture",),
        ".zoo.registry": ("load_model",),
    },
    parts=("attacks", "benchmarks", "converters", "data", "search", "training"),
)
