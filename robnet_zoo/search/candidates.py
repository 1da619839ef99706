"""The candidates that a study evaluates: drawn beforehand, or chosen one after the other by a sampler."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, Self

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from pydantic import BaseModel

from robnet_zoo.errors import SearchError
from robnet_zoo.search.config import CandidateGroup, SearchConfig
from robnet_zoo.search.sampling import sample
from robnet_zoo.search.space import Kind, SearchSpace, bits

GENERATIONS = 10  # of NSGA-II, at least; in a group below 500 each has fewer than Optuna's 50 candidates
BIT = CategoricalDistribution((0, 1))


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of a group, and what their results depend on.

    Args:
        config, kind, group: where the group is.
        candidates: the index and the codes of each; None if the group's sampler chooses.
        phase: the name of a phase, if work on the group takes several, such as `scores` and then `finetuned`. Each is a
            separate study.
        inputs: what results depend on besides the config, such as the sha256 of weights and images, by name.

    Raises: SearchError if nothing could choose the candidates, and if an index occurs twice.
    """

    config: SearchConfig
    kind: Kind
    group: CandidateGroup
    candidates: tuple[tuple[int, tuple[str, ...]], ...] | None
    phase: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.candidates is None and self.group.sampler is None:
            raise SearchError(f"group {self.group.name} has no sampler that could choose its candidates")
        if self.candidates is not None and len({index for index, _ in self.candidates}) < len(self.candidates):
            raise SearchError("expected each index once")

    @classmethod
    def of_group(
        cls,
        config: SearchConfig,
        kind: Kind,
        group: CandidateGroup,
        *,
        phase: str = "",
        inputs: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the candidates of a whole group, the same ones for the same config.

        Args:
            config: the search.
            kind: the branch of the group.
            group: which candidates are wanted.
            phase: the name of a phase, if work on the group takes several.
            inputs: what results depend on besides the config, by name.

        Raises: SearchError as `sample`.
        """
        drawn = None
        if group.sampler is None:
            seed = f"{config.seed}/{kind}/{group.name}"
            codes = sample(config.space(kind), group.sampling, group.count, seed=seed, full=config.full)
            drawn = tuple(enumerate(codes))
        return cls(config, kind, group, drawn, phase, inputs or {})

    def then(self, candidates: Collection[tuple[int, tuple[str, ...]]], *, phase: str) -> Self:
        """Return the set of a later phase, with some of the candidates under their own indices."""
        return replace(self, candidates=tuple(candidates), phase=phase)

    @property
    def name(self) -> str:
        """Return the name of the study: `config/kind/group`, then the phase."""
        return "/".join(part for part in (self.config.name, self.kind, self.group.name, self.phase) if part)

    @property
    def total(self) -> int:
        """Return how many candidates are wanted."""
        return self.group.count if self.candidates is None else len(self.candidates)

    @cached_property
    def space(self) -> SearchSpace:
        """Return the space of the candidates."""
        return self.config.space(self.kind)

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Return the directions of robust accuracy and, where NSGA-II weighs both, of multiply-adds."""
        return ["maximize", "minimize"] if self.candidates is None and self.group.sampler == "nsga2" else ["maximize"]

    @cached_property
    def basis(self) -> dict[str, str]:
        """Return the sha256, by name, of all that must not change while the study is worked on."""
        # Without defaults, so that fields that come later change nothing.
        dumped = partial(BaseModel.model_dump, mode="json", exclude_defaults=True)
        config = dumped(self.config, include={"seed", "full", "images", "evaluation"})
        config["space"] = dumped(self.space)
        config["supernet"] = dumped(self.config.branch(self.kind).supernet)
        config["group"] = dumped(self.group)
        return {"config": _sha256(config), "candidates": _sha256(self.candidates), **self.inputs}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all bits of an architecture, cell after cell."""
        if self.kind == "cell_based":
            return self.space.columns
        return tuple(f"cell_{cell} {column}" for cell in range(self.space.cells) for column in self.space.columns)

    def parameters(self, codes: tuple[str, ...]) -> dict[str, int]:
        """Return an architecture as Optuna's parameters."""
        return dict(zip(self.columns, bits(codes), strict=True))

    def choose(self, study: optuna.Study, trial: optuna.Trial) -> tuple[str, ...]:
        """Return the codes that the sampler wants to try next.

        Its random numbers are keyed by the trial, so workers differ, and a restart does not change the choice.
        """
        study.sampler = self._sampler(int(_sha256([self.config.seed, self.name, trial.number])[:8], 16))
        chosen = [trial.suggest_categorical(column, BIT.choices) for column in self.columns]
        size = self.space.bits
        return tuple(self.space.code(chosen[start : start + size]) for start in range(0, len(chosen), size))  # type: ignore[arg-type]

    def _sampler(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )  # both options are experimental before 5.0
            if self.group.sampler == "nsga2":
                return NSGAIISampler(seed=seed, population_size=max(4, min(50, self.group.count // GENERATIONS)))
            return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
