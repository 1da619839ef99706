"""Random architectures: uniform, by density or by budget. All differ, and each uses all its cells."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.documents import Document, problems_error
from robnet_zoo.core.units import Share
from robnet_zoo.errors import DocumentError, SearchError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Budget, Genotype, NetworkConfig
from robnet_zoo.search.space import SearchSpace, direct_share

MAX_DRAWS = 100_000  # how many draws in a row may give no new architecture within the bounds
CONVS = {"small": (0, 7), "medium": (8, 10), "large": (11, 10**9)}  # a cell (paper, section 3.4)


class Sampling(Document):
    """The rule by which architectures are drawn.

    Args:
        kind: `uniform` sets every element of α to 0 or 1 with equal probability; `density` first draws a density, then
            which elements are 1.
        densities: the lowest and the highest density that is drawn.
        budget: a bound on convolutions per cell: small is at most 7, medium 8 to 10, large 11 or more. All
            architectures within it are equally likely.
        density_from: the lowest `Genotype.density` that is kept; appendix F asks for 0.5.
        direct_above: the `direct_share` that must be exceeded; appendix F asks for 0.5.
        parameters: the least and the most parameters that are kept, counted at full width.
    """

    kind: Literal["uniform", "density"] = "uniform"
    densities: Annotated[tuple[Share, Share], Field(strict=False)] = (0.0, 1.0)
    budget: Budget | None = None
    density_from: Share = 0.0
    direct_above: Annotated[float, Field(ge=-1, lt=1)] = -1.0
    parameters: Annotated[tuple[int, int] | None, Field(strict=False)] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, pair in (("densities", self.densities), ("parameters", self.parameters)):
            if pair is not None and pair[0] > pair[1]:
                raise problems_error([((name,), f"expected the smaller value first, got {list(pair)}")])
        return self

    def bits(self, space: SearchSpace, generator: random.Random) -> list[int]:
        """Draw the bits of a cell. Raises SearchError if no draw keeps the budget."""
        for _ in range(MAX_DRAWS):
            if self.kind == "density":
                count = round(generator.uniform(*self.densities) * space.bits)
                on = set(generator.sample(range(space.bits), count))
                drawn = [int(bit in on) for bit in range(space.bits)]
            else:
                drawn = [generator.getrandbits(1) for _ in range(space.bits)]
            if self.budget is None or self._affords(space, drawn):
                return drawn
        raise SearchError(f"expected cells with the budget {self.budget}, got none in {MAX_DRAWS:,} draws")

    def _affords(self, space: SearchSpace, drawn: list[int]) -> bool:
        assert self.budget is not None
        least, most = CONVS[self.budget]
        return least <= sum(bit for bit, conv in zip(drawn, space.convs, strict=True) if conv) <= most

    def wants(self, spec: Genotype, full: Genotype) -> bool:
        """Return whether an architecture keeps the bounds. full: the same architecture at full width."""
        if spec.density < self.density_from or direct_share(spec) <= self.direct_above:
            return False
        return self.parameters is None or self.parameters[0] <= parameters(full) <= self.parameters[1]


def draws(
    space: SearchSpace, sampling: Sampling, *, seed: str, full: NetworkConfig | None = None
) -> Iterator[Genotype]:
    """Yield different architectures without end, in the space's own network.

    Args:
        space: of the architectures.
        sampling: how they are drawn.
        seed: the same seed gives the same architectures.
        full: the network whose parameters `sampling.parameters` bounds; by default the space's own.

    Raises: SearchError if MAX_DRAWS draws in a row give no new architecture within the bounds.
    """
    generator = random.Random(seed)
    taken: set[str] = set()
    failures = 0
    while failures < MAX_DRAWS:
        codes = tuple(space.code(sampling.bits(space, generator)) for _ in range(space.cells))
        failures += 1
        try:
            spec = space.genotype(codes, name="drawn")
            whole = spec if full is None else space.genotype(codes, name="drawn", network=full)
        except DocumentError:  # no input reaches a node, or nothing reads a cell
            continue
        if spec.hash in taken or not sampling.wants(spec, whole):
            continue
        taken.add(spec.hash)
        failures = 0
        yield spec
    bounds = sampling.model_dump_json(exclude_defaults=True)
    raise SearchError(f"expected more than {len(taken)} architectures of {bounds}, got none in {MAX_DRAWS:,} draws")


def sample(
    space: SearchSpace, sampling: Sampling, count: int, *, seed: str, full: NetworkConfig | None = None
) -> list[tuple[str, ...]]:
    """Return the codes of the first `count` architectures of `draws`.

    Args:
        space: of the architectures.
        sampling: how they are drawn.
        count: how many.
        seed: of the random numbers.
        full: as `draws` takes it.

    Raises: SearchError as `draws`.
    """
    return [space.codes(spec) for spec in islice(draws(space, sampling, seed=seed, full=full), count)]
