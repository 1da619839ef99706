"""The robustness harness: targets are measured under protocols, and results are documents.

    from robnet_zoo import data
    from robnet_zoo.benchmarks import evaluate, load_protocol, load_target

    images = data.load("digits", n=100)
    result = evaluate(load_target("robnet_micro.digits"), images, load_protocol("quick"))
    print(result.measurement("pgd20").accuracy)

The timing scripts are in `robnet_zoo.benchmarks.speed`, the committed results in the folder `results`. Names are
imported when they are first used, as torch and ONNX Runtime take a while.
"""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    from robnet_zoo.benchmarks.checks.results import (
        ALARMS,
        AlarmKind,
        Severity,
        by_kind,
        from_result,
        from_results,
        from_target,
    )
    from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
    from robnet_zoo.benchmarks.exports import ExportedForm, ExportsResult, write_exports
    from robnet_zoo.benchmarks.kept import Verified, verify
    from robnet_zoo.benchmarks.likeness import Likeness, compare_targets
    from robnet_zoo.benchmarks.protocol import DataRequest, Protocol, load_protocol, protocol_names
    from robnet_zoo.benchmarks.result import (
        Alarm,
        DataIdentity,
        Example,
        Measurement,
        ModelIdentity,
        Result,
        Shard,
        results_in,
    )
    from robnet_zoo.benchmarks.robustbench import model_info
    from robnet_zoo.benchmarks.shards import merge
    from robnet_zoo.benchmarks.targets.load import load_target
    from robnet_zoo.benchmarks.targets.target import Target
    from robnet_zoo.benchmarks.targets.torch import of_module
    from robnet_zoo.errors import ResultError, TargetError

__all__ = [
    # what is measured
    "DataRequest",
    "Protocol",
    "load_protocol",
    "protocol_names",
    # on what
    "Target",
    "load_target",
    "of_module",
    # the measurement
    "evaluate",
    "evaluate_transfer",
    "merge",
    # its result
    "DataIdentity",
    "Example",
    "Measurement",
    "ModelIdentity",
    "Result",
    "Shard",
    "model_info",
    "results_in",
    # its images, for others to check
    "Verified",
    "verify",
    # what exported files lose
    "ExportedForm",
    "ExportsResult",
    "write_exports",
    # whether two targets are the same function
    "Likeness",
    "compare_targets",
    # what looks wrong in it
    "ALARMS",
    "Alarm",
    "AlarmKind",
    "Severity",
    "by_kind",
    "from_result",
    "from_results",
    "from_target",
    # errors
    "ResultError",
    "TargetError",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".protocol": ("DataRequest", "Protocol", "load_protocol", "protocol_names"),
        ".targets.load": ("load_target",),
        ".targets.torch": ("of_module",),
        ".targets.target": ("Target",),
        ".evaluation": ("evaluate", "evaluate_transfer"),
        ".shards": ("merge",),
        ".result": (
            "Alarm",
            "DataIdentity",
            "Example",
            "Measurement",
            "ModelIdentity",
            "Result",
            "Shard",
            "results_in",
        ),
        ".exports": ("ExportedForm", "ExportsResult", "write_exports"),
        ".kept": ("Verified", "verify"),
        ".likeness": ("Likeness", "compare_targets"),
        ".robustbench": ("model_info",),
        "robnet_zoo.errors": ("ResultError", "TargetError"),
        ".checks.results": ("ALARMS", "AlarmKind", "Severity", "by_kind", "from_result", "from_results", "from_target"),
    },
)
