"""A plan of two rows at a scale that trains in seconds, and an invented result of it."""

from __future__ import annotations

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.result import DataIdentity
from robnet_zoo.reproduce.plan import Plan, PlanPart, PlanRow
from robnet_zoo.reproduce.reproduction import Source
from robnet_zoo.reproduce.result import ModelResult, Outcomes, PartResult, ReproductionResult
from robnet_zoo.reproduce.scale import Scale
from robnet_zoo.training import StageEstimate, TrainingEstimate, load_recipe

DIGITS = Source("digits", "digits")
TINY = Scale(name="tiny", width=0.05, depth=0.1, size=0.5, epochs=0.01, images=0.12, test_images=0.02)
COMMAND = [
    "reproduce", "table1", "--data", "digits", "--test", "digits",
    "--rows", "ResNet-18", "--rows", "RobNet-free", "--width", "0.05", "--depth", "0.1", "--size", "0.5",
    "--epochs", "0.01", "--images", "0.12", "--test-images", "0.01",
]  # fmt: skip


def tiny_plan(**changes: object) -> Plan:
    """Return a plan: ResNet-18 and RobNet-free under a quick protocol on digits. changes: fields of its part."""
    rows = (
        PlanRow(label="ResNet-18", architecture="resnet18_cifar", paper=45.1),
        PlanRow(label="RobNet-free", architecture="robnet_free", paper=52.57),
    )
    part = {"data": "digits", "recipe": "paper", "protocol": "quick", "rows": rows} | changes
    order_by = "pgd10" if part["protocol"] == "quick" else "clean"
    return Plan(name="trial", title="A trial", order_by=order_by, parts=(PlanPart.parse(part),))


def made_result(*, resnet: int = 10, robnet: int = 14, n: int = 50) -> ReproductionResult:
    """Return two seeds of both rows, with so many of n images right under PGD-10, and five more without attack."""
    models = tuple(
        ModelResult(
            label=label,
            seed=seed,
            state_sha256=f"{label} {seed}",
            parameters=parameters,
            multiply_adds=50 * parameters,
            hours=0.01,
            outcomes=(
                Outcomes(attack="clean", correct="1" * (right + 5) + "0" * (n - right - 5)),
                Outcomes(attack="pgd10", correct="1" * right + "0" * (n - right)),
            ),
        )
        for seed in (0, 1)
        for label, right, parameters in (("ResNet-18", resnet, 1234), ("RobNet-free", robnet, 5678))
    )
    images = {"name": "scikit-learn digits", "sha256": "0" * 64}
    part = PartResult(
        part="digits",
        training=DataIdentity(**images, n=156),
        data=DataIdentity(**images, n=n),
        size=16,
        recipe=TINY.recipe(load_recipe("paper"), seed=0),
        protocol=TINY.protocol(load_protocol("quick"), n=n),
        models=models,
    )
    return ReproductionResult(
        plan=tiny_plan(), scale=TINY, seeds=(0, 1), complete=True, parts=(part,), software={}, device="a processor"
    )


def taking(*, hours: float, gradient_seconds: float) -> TrainingEstimate:
    """Return an estimate of a training on ten classes."""
    return TrainingEstimate(
        architecture="any",
        spec_hash="any",
        recipe=load_recipe("paper"),
        data="digits",
        images=1,
        updates=1,
        device="any",
        software={},
        stages=(StageEstimate(size=16, epochs=1, images_per_second=1, hours=hours),),
        gradient_seconds=gradient_seconds,
    )
