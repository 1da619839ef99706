"""Plans: which architectures a table or figure of the paper needs, and how they are trained and measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, Tuple, called, exactly, problems_error
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.layers import DenoiseForm

if TYPE_CHECKING:
    from robnet_zoo.zoo.architecture import Architecture

_Percent = Annotated[float, Field(ge=0, le=100)]


class PlanRow(Document):
    """An architecture of a plan.

    label: the paper's name for it. architecture: a spec or a model of timm, as `load_architecture` takes it. denoise:
    the form of the denoising blocks after its stages. paper: the figure that the paper prints for `Plan.order_by`.
    """

    label: str
    architecture: str
    denoise: DenoiseForm | None = None
    paper: _Percent | None = None

    @property
    def published(self) -> Architecture:
        """Return the architecture at full size. Raises DocumentError."""
        from robnet_zoo.zoo.architecture import load_architecture

        plain = load_architecture(self.architecture)
        return plain if self.denoise is None else plain.denoised(self.denoise)


class PlanPart(Document):
    """The rows of a data set.

    data: its name. recipe, protocol: bundled names or paths. sources: what is attacked in a transfer: `copy`, another
    training of the target itself, or `all`, another training of every row.
    """

    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z"), called("letters, digits, _ and -")]
    recipe: str
    protocol: str
    sources: Literal["copy", "all"] | None = None
    rows: Annotated[Tuple[PlanRow], Field(min_length=1)]


class Plan(Document):
    """A table or figure. order_by: the attack whose accuracies are compared with the paper's order."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z"), called("letters, digits, _ and -")]
    title: str
    description: str = ""
    order_by: str
    parts: Annotated[Tuple[PlanPart], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, part in enumerate(self.parts):
            twice = [label for label, times in Counter(row.label for row in part.rows).items() if times > 1]
            if twice:
                raise problems_error(
                    [(("parts", i, "rows"), f"expected a label of its own each, got {twice[0]} again")]
                )
        return self

    def with_rows(self, labels: list[str]) -> Plan:
        """Return the plan with only these rows. Raises DocumentError for a label that no part has."""
        every = list(dict.fromkeys(row.label for part in self.parts for row in part.rows))
        keys = {_key(label): label for label in every}
        chosen = {keys.get(_key(label)) for label in labels}
        if None in chosen:
            strange = next(label for label in labels if _key(label) not in keys)
            raise DocumentError([f"expected rows among {', '.join(every)}, got {strange}"], source=self.name)
        parts = [
            part.model_copy(update={"rows": tuple(row for row in part.rows if row.label in chosen)})
            for part in self.parts
        ]
        return self.model_copy(update={"parts": tuple(part for part in parts if part.rows)})


def _key(label: str) -> str:
    return "".join(filter(str.isalnum, label.lower()))


PLANS = Bundled(Plan, Path(__file__).parent / "plans", "plan", about="title")
plan_names, load_plan = PLANS.names, PLANS.load
