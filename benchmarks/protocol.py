"""What is measured, and what came out: two documents."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.documents import Document, Pixels, Tuple, exactly, in_image_units, problems_error

Count = Annotated[int, Field(ge=1)]
Outcome = Literal[0, 1]


class AttackConfig(Document):
    """One white-box attack in the l-infinity ball. `step` and `steps` are PGD's."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+\z")]
    kind: Literal["fgsm", "pgd"]
    step: Pixels | None = None
    steps: Count = 1
    random_start: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "pgd" and self.step is None:
            raise problems_error([(("step",), "expected a step size for pgd, got none")])
        if self.kind == "fgsm" and self.steps != 1:
            raise problems_error([(("steps",), f"expected 1 for fgsm, got {self.steps}")])
        return self

    @property
    def step_value(self) -> float:
        """The step size in image units."""
        assert self.step is not None
        return in_image_units(self.step)


class Protocol(Document):
    """Attacks, their budget and their randomness."""

    name: str
    eps: Pixels = "8/255"
    attacks: Tuple[AttackConfig]
    seed: int = 0
    batch: Count = 100

    @property
    def eps_value(self) -> float:
        """eps in image units."""
        return in_image_units(self.eps)


WHITE_BOX = Protocol(
    name="white_box",
    attacks=(
        AttackConfig(name="fgsm", kind="fgsm"),
        AttackConfig(name="pgd20", kind="pgd", step="2/255", steps=20, random_start=True),
    ),
)


class ModelIdentity(Document):
    """Which function was measured."""

    name: str
    spec_hash: str | None = None
    weights_sha256: str


class DataIdentity(Document):
    """Which images it was measured on."""

    name: str
    sha256: str
    n: Count


class Measurement(Document):
    """One attack's outcome: `correct[i]` is 1 if image i is still classified rightly.

    forwards, gradients: per image, summed over all images. unconfirmed: successes that the attack claimed and the
    original model, in float32 and eval mode, did not confirm; they count as failures of the attack.
    """

    attack: str
    accuracy: float
    correct: Tuple[Outcome]
    forwards: int
    gradients: int
    unconfirmed: int
    seconds: float


class Result(Document):
    """A results document: protocol, model, data, software, device, and every image's outcome."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    protocol: Protocol
    model: ModelIdentity
    data: DataIdentity
    software: dict[str, str]
    device: str
    measurements: Tuple[Measurement]

    def accuracy(self, attack: str) -> float:
        """Share of images classified rightly under an attack; `clean` is without one. Raises KeyError."""
        for measurement in self.measurements:
            if measurement.attack == attack:
                return measurement.accuracy
        raise KeyError(attack)
