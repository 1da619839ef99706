"""The paper's tables and figures, from data to trained weights to measured table, at any scale.

from robnet_zoo.reproduce import Reproduction, Source, load_plan, load_scale

sources = [Source("cifar10-train:data", "cifar10-test:data")]
result = Reproduction(load_plan("table1"), sources, "runs/tables", scale=load_scale("small")).run()
"""

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy
from robnet_zoo.errors import ReproduceError

if TYPE_CHECKING:
    from robnet_zoo.reproduce.plan import Plan, PlanPart, PlanRow, load_plan, plan_names
    from robnet_zoo.reproduce.reproduction import Reproduction, Source
    from robnet_zoo.reproduce.result import ModelResult, Outcomes, PartResult, ReproductionResult
    from robnet_zoo.reproduce.scale import Scale, load_scale, scale_names

__all__ = [
    # the work
    "Reproduction",
    "Source",
    "ReproduceError",
    # what to reproduce, and at which scale
    "Plan",
    "PlanPart",
    "PlanRow",
    "load_plan",
    "plan_names",
    "Scale",
    "load_scale",
    "scale_names",
    # what came out
    "ReproductionResult",
    "PartResult",
    "ModelResult",
    "Outcomes",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".plan": ("Plan", "PlanPart", "PlanRow", "load_plan", "plan_names"),
        ".reproduction": ("Reproduction", "Source"),
        ".result": ("ModelResult", "Outcomes", "PartResult", "ReproductionResult"),
        ".scale": ("Scale", "load_scale", "scale_names"),
    },
)
