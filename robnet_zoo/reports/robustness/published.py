"""The figures that the paper printed, as data, and which measured figures may stand beside them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.attacks import AnyAttack
from robnet_zoo.benchmarks.protocol import Count, Threat
from robnet_zoo.benchmarks.result import ModelIdentity, Result
from robnet_zoo.core.documents import Document, Tuple, exactly, problems_error
from robnet_zoo.core.units import Pixels, in_image_units
from robnet_zoo.genotype.layers import DENOISE_FORMS
from robnet_zoo.genotype.specs import load_spec

Percent = Annotated[float, Field(ge=0, le=100)]


class PaperColumn(Document):
    """A column of a table of the paper.

    Args:
        attack: the parameters that an attack must have to stand here, None for clean images.
        source: of a transfer, the model that the attack looked at; `copy` is another training of the target itself.
    """

    label: str
    attack: dict[str, str | int | float] | None = None
    source: str | None = None

    def fits(self, attack: AnyAttack) -> bool:
        """Return whether an attack is that of this column; parameters that the paper leaves open do not matter."""
        parameters = attack.model_dump()
        return self.attack is not None and all(
            key in parameters and _same(key, value, parameters[key]) for key, value in self.attack.items()
        )


class PaperRow(Document):
    """A row of a table of the paper.

    Args:
        spec: the model's bundled architecture.
        denoise: whether the architecture has denoising blocks, of any form.
        names: other names of the model.
        parameters: in millions.
        values: in percent, one a column.
    """

    model: str
    spec: str | None = None
    denoise: bool = False
    names: Tuple[str] = ()
    parameters: Annotated[float, Field(gt=0)] | None = None
    values: Tuple[Percent]

    def is_of(
        self, model: ModelIdentity, num_classes: int | None = None, input_size: tuple[int, int, int] | None = None
    ) -> bool:
        """Return whether a measured model has this architecture, by its spec's hash if it has one, else by its name.

        Args:
            num_classes, input_size: of the data that the spec was fitted to, where they are not its own.
        """
        if model.spec_hash is not None:
            return self.spec is not None and model.spec_hash in _hashes(
                self.spec, num_classes, input_size, denoise=self.denoise
            )
        return _plain(model.name) in {re.sub(r"[^a-z0-9]", "", name.lower()) for name in (self.model, *self.names)}


class PaperTable(Document):
    """A table of the paper, or its part for one data set.

    Args:
        data_pattern: a regular expression that the name of the data must match.
        num_classes, input_size: of the data, where specs have to be fitted to it.
    """

    number: Count
    title: str
    threat: Threat
    data: str
    data_pattern: str
    num_classes: Count | None = None
    input_size: Annotated[tuple[Count, Count, Count] | None, Field(strict=False)] = None
    eps: Pixels
    columns: Tuple[PaperColumn]
    rows: Tuple[PaperRow]

    @model_validator(mode="after")
    def _check(self) -> Self:
        expected = f"expected {len(self.columns)} values, one a column, got"
        wrong = {i: len(row.values) for i, row in enumerate(self.rows) if len(row.values) != len(self.columns)}
        if wrong:
            raise problems_error([(("rows", i, "values"), f"{expected} {length}") for i, length in wrong.items()])
        return self

    def fits(self, result: Result) -> bool:
        """Return whether a result was measured as this table was: same kind of data, same threat, same eps."""
        return (
            self.threat == result.protocol.threat
            and in_image_units(self.eps) == result.protocol.eps_value
            and re.search(self.data_pattern, result.data.name, re.IGNORECASE) is not None
        )

    def row_of(self, model: ModelIdentity) -> PaperRow | None:
        """Return the row of a measured model's architecture, if there is one."""
        fit = (self.num_classes, self.input_size)
        return next((row for row in self.rows if row.is_of(model, *fit)), None)


class PaperTables(Document):
    """The tables of a paper, in percent and millions of parameters, as printed."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    paper: str
    authors: str
    venue: str
    tables: Tuple[PaperTable]

    def table(self, number: int) -> PaperTable:
        """Return a table, or its first part. Raises KeyError."""
        for table in self.tables:
            if table.number == number:
                return table
        raise KeyError(number)


@cache
def published() -> PaperTables:
    """Return the tables of the RobNet paper (Guo et al., CVPR 2020)."""
    return PaperTables.load(Path(__file__).parent / "published.json")


def same_architecture(first: ModelIdentity, second: ModelIdentity) -> bool:
    """Compare two models by the spec's hash if both have one, else by the name up to its first dot."""
    if first.spec_hash is not None and second.spec_hash is not None:
        return first.spec_hash == second.spec_hash
    return _plain(first.name) == _plain(second.name)


def _plain(name: str) -> str:
    """Return a name without folder, tag and punctuation: `zoo/ResNet-18.cifar10` -> `resnet18`."""
    return re.sub(r"[^a-z0-9]", "", re.split(r"[/\\]", name)[-1].split(".")[0].lower())


def _same(key: str, expected: str | int | float, value: object) -> bool:
    if key == "step" and isinstance(value, str):
        return in_image_units(str(expected)) == in_image_units(value)
    return expected == value


@cache
def _hashes(
    spec: str, num_classes: int | None, input_size: tuple[int, int, int] | None, *, denoise: bool
) -> frozenset[str]:
    """Return the hashes of a bundled spec fitted to such data; with denoising, one for each of its forms."""
    whole = load_spec(spec).fitted(num_classes=num_classes, input_size=input_size)
    return frozenset({whole.denoised(form).hash for form in DENOISE_FORMS} if denoise else {whole.hash})
