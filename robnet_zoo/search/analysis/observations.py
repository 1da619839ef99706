"""Candidates as numbers, and the choice of those that an analysis is about."""

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
    """A candidate with numbers of its architecture.

    Args:
        candidate: with its accuracies.
        bits: of α, in the order of `SearchSpace.columns`, cell after cell.
        density, budget: `Genotype.density` and `Genotype.budget`.
        direct, skip: convolutions per cell on either kind of edge, the mean over depths.
        multiply_adds, parameters: in the search's network.
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
        """Return the convolutions per cell."""
        return self.direct + self.skip

    @property
    def share(self) -> float | None:
        """Return the share of the convolutions on direct edges (paper, section 3.4), or None without a convolution."""
        return self.direct / self.convs if self.convs else None

    @property
    def before(self) -> Accuracy:
        """Return the accuracy before finetuning. Raises SearchError if it was not measured."""
        return _measured(self.candidate, self.candidate.before, "before")

    @property
    def after(self) -> Accuracy:
        """Return the accuracy after finetuning. Raises SearchError if the candidate was not finetuned."""
        return _measured(self.candidate, self.candidate.after, "after")

    @property
    def robust(self) -> float:
        """Return robust accuracy after finetuning, by which an architecture is judged (paper, section 3.2)."""
        return self.after.robust


def _measured(candidate: Candidate, accuracy: Accuracy | None, when: str) -> Accuracy:
    if accuracy is None:
        raise SearchError(f"{candidate.group} {candidate.index}: expected an accuracy {when} finetuning, got none")
    return accuracy


def observe(result: StudyResult, candidate: Candidate) -> Observation:
    """Return the observation of a candidate."""
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
    """Return each architecture once: the first observation of each hash."""
    by_hash: dict[str, Observation] = {}
    for observation in observations:
        by_hash.setdefault(observation.candidate.hash, observation)
    return tuple(by_hash.values())


def finetuned(observations: Iterable[Observation]) -> list[Observation]:
    """Return the observations that were finetuned."""
    return [observation for observation in observations if observation.candidate.after is not None]


def is_uniform(group: CandidateGroup) -> bool:
    """Return whether a group's α are uniform, perhaps within a budget: no learning sampler and no other bounds."""
    drawn = group.sampling
    bounded = drawn.density_from > 0 or drawn.direct_above >= 0 or drawn.parameters is not None
    return group.sampler is None and drawn.kind == "uniform" and not bounded


@dataclass(frozen=True)
class Observed:
    """A search's result with the observations of all its candidates."""

    result: StudyResult
    observations: tuple[Observation, ...]

    @classmethod
    def from_result(cls, result: StudyResult) -> Self:
        """Observe all candidates of a result, which takes milliseconds for each."""
        return cls(result, tuple(observe(result, candidate) for candidate in result.candidates))

    @property
    def uniform_groups(self) -> tuple[str, ...]:
        """Return the groups of figures 3 to 5, 6a, 7 and 8: those that are `is_uniform` without a budget."""
        return tuple(name for name in self.budget_groups if self._group(name).sampling.budget is None)

    @property
    def budget_groups(self) -> tuple[str, ...]:
        """Return the groups of figure 6b: those that are `is_uniform`, with a budget or without.

        A budget draws among all uniform α within it, so the candidates of both kinds have the same distribution there.
        """
        return tuple(group.name for group in self.result.branch.groups if is_uniform(group))

    def in_groups(self, *names: str) -> tuple[Observation, ...]:
        """Return the observations of some groups, each architecture once."""
        return distinct(observation for observation in self.observations if observation.candidate.group in names)

    @property
    def uniform(self) -> tuple[Observation, ...]:
        """Return the observations of `uniform_groups`."""
        return self.in_groups(*self.uniform_groups)

    @property
    def budgeted(self) -> tuple[Observation, ...]:
        """Return the observations of `budget_groups`."""
        return self.in_groups(*self.budget_groups)

    def _group(self, name: str) -> CandidateGroup:
        return next(group for group in self.result.branch.groups if group.name == name)
