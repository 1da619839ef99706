"""The result of a plan: a document with the outcome of every image, from which tables and verdicts are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Alarm, DataIdentity, Natural
from robnet_zoo.core.documents import Document, Tuple, called, problems_error, renamed, version
from robnet_zoo.reproduce.plan import Plan
from robnet_zoo.reproduce.scale import Scale
from robnet_zoo.training.recipe import Recipe


class Outcomes(Document):
    """The outcomes of an attack, or of `clean`. correct: a character an image, 1 if it is still classified rightly."""

    attack: str
    correct: Annotated[str, Field(pattern=r"^[01]+\z"), called("a text of 0 and 1")]

    @property
    def bits(self) -> list[int]:
        """Return the outcomes as numbers, 0 or 1 an image."""
        return [int(bit) for bit in self.correct]


class ModelResult(Document):
    """A model that was trained and measured.

    label: its row. seed: of its training, unless the model is from elsewhere. source: in a transfer, the row of the
    network that was attacked. hash: of the architecture. state_sha256, file_sha256: of the weights, as in a results
    document. hours: of training.
    """

    label: str
    seed: int | None = None
    source: str | None = None
    hash: str | None = None
    state_sha256: str | None = None
    file_sha256: str | None = None
    parameters: Natural
    multiply_adds: int | None = None
    hours: float | None = None
    outcomes: Tuple[Outcomes]
    alarms: Tuple[Alarm] = ()

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "weights_sha256", "state_sha256")

    def under(self, attack: str) -> Outcomes | None:
        """Return the outcomes under an attack, or None if it was not made."""
        return next((each for each in self.outcomes if each.attack == attack), None)


class PartResult(Document):
    """What was measured on a data set.

    training, data: the images to train on and to measure. recipe, protocol: as they were at this scale.
    """

    part: str
    training: DataIdentity
    data: DataIdentity
    size: int
    recipe: Recipe
    protocol: Protocol
    models: Tuple[ModelResult]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, model in enumerate(self.models):
            for each in model.outcomes:
                if len(each.correct) != self.data.n:
                    expected = f"expected {self.data.n} outcomes of {each.attack}, got {len(each.correct)}"
                    raise problems_error([(("models", i, "outcomes"), expected)])
        return self


class ReproductionResult(Document):
    """The result of a plan. complete: whether every row was trained with every seed and measured."""

    schema_version: Annotated[Literal[2], version(2, oldest=1)] = 2
    plan: Plan
    scale: Scale
    seeds: Tuple[int]
    complete: bool
    parts: Tuple[PartResult]
    software: dict[str, str]
    device: str
