"""Candidates as numbers, and which of them an analysis is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robnet_zoo.blueprint import multiply_adds, parameters
from robnet_zoo.genotype import Budget
from robnet_zoo.search.config import Group
from robnet_zoo.search.results import Accuracy, Candidate, StudyResult
from robnet_zoo.search.space import SearchError, bits


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


def observe(result: StudyResult, candidates: Iterable[Candidate] | None = None) -> tuple[Observation, ...]:
    """The observations of candidates, by default of all; of an architecture that stands there twice, the first."""
    found: dict[str, Observation] = {}
    for candidate in result.candidates if candidates is None else candidates:
        if candidate.hash in found:
            continue
        spec = result.spec(candidate)
        depth = len(spec.layout)
        found[candidate.hash] = Observation(
            candidate=candidate,
            bits=bits(candidate.codes),
            density=spec.density,
            direct=spec.direct_convs / depth,
            skip=spec.skip_convs / depth,
            budget=spec.budget,
            multiply_adds=multiply_adds(spec),
            parameters=parameters(spec),
        )
    return tuple(found.values())


def is_uniform(group: Group) -> bool:
    """Whether a group's α are uniform, but for a budget: no sampler that learns, no bounds on what is drawn."""
    drawn = group.sampling
    bounded = drawn.density_from > 0 or drawn.direct_above >= 0 or drawn.parameters is not None
    return group.sampler is None and drawn.kind == "uniform" and not bounded


def uniform_groups(result: StudyResult) -> tuple[str, ...]:
    """The groups that figures 3 to 5, 6a, 7 and 8 are about: `is_uniform`, without a budget."""
    return tuple(group.name for group in result.branch.groups if is_uniform(group) and group.sampling.budget is None)


def budget_groups(result: StudyResult) -> tuple[str, ...]:
    """The groups that figure 6b is about: `is_uniform`, with a budget or without.

    A budget draws among all uniform α that keep it, so within a budget the candidates of both kinds are alike.
    """
    return tuple(group.name for group in result.branch.groups if is_uniform(group))


def of_groups(result: StudyResult, names: Sequence[str]) -> tuple[Observation, ...]:
    """The observations of the candidates of some groups."""
    return observe(result, (candidate for candidate in result.candidates if candidate.group in names))


def finetuned(observations: Iterable[Observation]) -> list[Observation]:
    """Those that were finetuned."""
    return [one for one in observations if one.candidate.after is not None]
