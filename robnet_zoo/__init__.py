"""Robust architectures as JSON genotypes. Importing this package registers the models of `specs/` with timm.

So it does the paper's comparison networks, `robnet_zoo.zoo.baselines`.
"""

import sys

from robnet_zoo.core import threads as _threads

if _threads.is_command(sys.orig_argv):
    _threads.bound_spin()  # before torch is imported, which reads it

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, for_inference
from robnet_zoo.version import __version__
from robnet_zoo.zoo import baselines as _baselines  # noqa: F401  (registration is what the import is for)
from robnet_zoo.zoo import registry as _zoo  # noqa: F401

__all__ = ["Genotype", "__version__", "compile", "for_inference"]
