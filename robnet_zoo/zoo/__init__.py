"""The models in timm: the bundled specs and weights, the comparison networks, and what can be trained and measured."""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    from robnet_zoo.genotype.specs import load_spec, spec_names
    from robnet_zoo.zoo.architecture import (
        Architecture,
        Costs,
        TimmArchitecture,
        build,
        costs,
        from_run,
        load_architecture,
    )
    from robnet_zoo.zoo.baselines import BASELINES
    from robnet_zoo.zoo.registry import load_model, load_weights, read_weights
    from robnet_zoo.zoo.weights import state_sha256

__all__ = [
    # models and specs by name
    "load_model",
    "load_spec",
    "spec_names",
    # what can be trained and measured
    "Architecture",
    "TimmArchitecture",
    "BASELINES",
    "load_architecture",
    "from_run",
    "build",
    "Costs",
    "costs",
    # weights
    "load_weights",
    "read_weights",
    "state_sha256",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        "robnet_zoo.genotype.specs": ("load_spec", "spec_names"),
        ".architecture": (
            "Architecture",
            "Costs",
            "TimmArchitecture",
            "build",
            "costs",
            "from_run",
            "load_architecture",
        ),
        ".baselines": ("BASELINES",),
        ".registry": ("load_model", "load_weights", "read_weights"),
        ".weights": ("state_sha256",),
    },
)
