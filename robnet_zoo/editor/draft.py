"""A spec in the making: its parts fit each other, so that it can be drawn, but it need not compile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from robnet_zoo.core.documents import Problem, nearest, problems_error, problems_in, shown
from robnet_zoo.genotype.genotype import MAX_DEPTH, Cell, FrozenDict, Genotype, Name

GENOTYPE = TypeAdapter(Genotype)  # raises pydantic's errors, whose places a draft needs


class DraftCell(Cell):
    """A cell whose output may be empty."""

    def _problems(self) -> Iterator[Problem]:
        return (problem for problem in super()._problems() if self.concat or problem[0] != ("concat",))


class Draft(Genotype):
    """A genotype of which only the shape is checked. `problems` says what keeps it from being one."""

    cells: Annotated[  # type: ignore[assignment]  # a draft's cells, where a genotype has whole ones
        dict[Name, DraftCell], Field(max_length=MAX_DEPTH), AfterValidator(FrozenDict)
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._operation_problems())
        for index, name in enumerate(self.layout):
            if name not in self.cells:
                problems.append((("layout", index), f"unknown cell {shown(name)}{nearest(name, self.cells)}"))
        if not self.layout:
            problems.append((("layout",), "expected one cell or more, got none"))
        if problems:
            raise problems_error(problems)
        return self

    @classmethod
    def of_spec(cls, spec: Genotype) -> Draft:
        """Return a spec as a draft."""
        return cls.parse(spec.model_dump(), source=spec.name)

    @property
    def document(self) -> dict[str, Any]:
        """Return the draft as JSON has it."""
        return self.model_dump(mode="json", exclude_none=True)

    def compiled(self) -> tuple[Genotype | None, list[Problem]]:
        """Return the genotype, or None and what is wrong with the draft, each with its place."""
        try:
            return GENOTYPE.validate_python(self.model_dump()), []
        except ValidationError as error:
            return None, problems_in(error)

    def spec(self, *, source: str | os.PathLike[str] = "") -> Genotype:
        """Return the genotype. Raises DocumentError if the draft is not one. source: what the message calls it."""
        return Genotype.parse(self.model_dump(), source=os.fsdecode(source))


def blank(name: str = "my_cell") -> Draft:
    """Return the draft to begin with: a small network for 32x32 images of ten classes, whose cell has no edges yet."""
    return Draft.parse(
        {
            "schema_version": 1,
            "name": name,
            "operations": ["identity", "sep_conv_3x3"],
            "cells": {"cell": {"alpha": [[0, 0], [0, 0]], "concat": [2]}},
            "layout": ["cell", "cell", "cell"],
            "network": {
                "stem": "cifar",
                "channels": 16,
                "depth": 3,
                "reductions": [1, 2],
                "num_classes": 10,
                "input_size": [3, 32, 32],
                "affine": False,
            },
        }
    )
