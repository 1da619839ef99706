"""Candidates as numbers, and which of them an analysis is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.genotype.genotype import Budget
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.result import Accuracy, Candidate, StudyResult
from robnet_zoo.search.space import bits


@dataclass(frozen=True)
class Observation:
    """A candidate and what its architecture is.

    bits: in the order of `SearchSpace.columns`, cell after cell. density: `Genotype.density`. direct, skip:
    convolutions a cell on either kind of edges, mean over the depths. budget: `Genotype.budget`. multiply_adds,
    parameters: in the search's network.
    """

    candidate: Candidate
    bits: tuple[int, ...]
    density: float
    direct: float
    skip: float
    budget: Budget
    multiply_adds: int
    parameters: int

    @property
    def convs(self) -> float:
        """Convolutions a cell."""
        return self.direct + self.skip

    @property
    def share(self) -> float | None:
        """The share of the convolutions that are on direct edges; none without a convolution (paper, section 3.4)."""
        return self.direct / self.convs if self.convs else None

    @property
    def before(self) -> Accuracy:
        """Before finetuning. Raises SearchError where that was not measured."""
        return _measured(self.candidate, self.candidate.before, "before")

    @property
    def after(self) -> Accuracy:
        """After finetuning. Raises SearchError where it was not finetuned."""
        return _measured(self.candidate, self.candidate.after, "after")

    @property
    def robust(self) -> float:
        """Robust accuracy after finetuning: what an architecture is judged by (paper, section 3.2)."""
        return self.after.robust


def _measured(candidate: Candidate, accuracy: Accuracy | None, when: str) -> Accuracy:
    if accuracy is None:
        raise SearchError(f"{candidate.group} {candidate.index}: expected an accuracy {when} finetuning, got none")
    return accuracy


def observe(result: StudyResult, candidate: Candidate) -> Observation:
    """The observation of a candidate."""
    spec = result.spec(candidate)
    convs = {name: spec.convs(name) for name in spec.cells}
    depth = len(spec.layout)
    return Observation(
        candidate=candidate,
        bits=bits(candidate.codes),
        density=spec.density,
        direct=sum(convs[name][0] for name in spec.layout) / depth,
        skip=sum(convs[name][1] for name in spec.layout) / depth,
        budget=spec.budget,
        multiply_adds=multiply_adds(spec),
        parameters=parameters(spec),
    )


def distinct(observations: Iterable[Observation]) -> tuple[Observation, ...]:
    """Each architecture once: the first of those with one hash."""
    found: dict[str, Observation] = {}
    for one in observations:
        found.setdefault(one.candidate.hash, one)
    return tuple(found.values())


def finetuned(observations: Iterable[Observation]) -> list[Observation]:
    """Those that were finetuned."""
    return [one for one in observations if one.candidate.after is not None]


def is_uniform(group: CandidateGroup) -> bool:
    """Whether a group's α are uniform, but for a budget: no sampler that learns, no bounds on what is drawn."""
    drawn = group.sampling
    bounded = drawn.density_from > 0 or drawn.direct_above >= 0 or drawn.parameters is not None
    return group.sampler is None and drawn.kind == "uniform" and not bounded


@dataclass(frozen=True)
class Observed:
    """A search's result with the observations of all its candidates, and which of them an analysis is about."""

    result: StudyResult
    observations: tuple[Observation, ...]

    @classmethod
    def from_result(cls, result: StudyResult) -> Self:
        """The observations of a result; they take milliseconds a candidate."""
        return cls(result, tuple(observe(result, candidate) for candidate in result.candidates))

    @property
    def uniform_groups(self) -> tuple[str, ...]:
        """What figures 3 to 5, 6a, 7 and 8 are about: groups that are `is_uniform`, without a budget."""
        return tuple(name for name in self.budget_groups if self._group(name).sampling.budget is None)

    @property
    def budget_groups(self) -> tuple[str, ...]:
        """What figure 6b is about: groups that are `is_uniform`, with a budget or without.

        A budget draws among all uniform α that keep it, so within a budget the candidates of both kinds are alike.
        """
        return tuple(group.name for group in self.result.branch.groups if is_uniform(group))

    def in_groups(self, *names: str) -> tuple[Observation, ...]:
        """The candidates of some groups, each architecture once."""
        return distinct(one for one in self.observations if one.candidate.group in names)

    @property
    def uniform(self) -> tuple[Observation, ...]:
        """The candidates of `uniform_groups`."""
        return self.in_groups(*self.uniform_groups)

    @property
    def budgeted(self) -> tuple[Observation, ...]:
        """The candidates of `budget_groups`."""
        return self.in_groups(*self.budget_groups)

    def _group(self, name: str) -> CandidateGroup:
        return next(group for group in self.result.branch.groups if group.name == name)
