"""Observations have the numbers of the spec, and groups are chosen by how they are drawn."""

from __future__ import annotations

import pytest

from robnet_zoo.search.analysis import (
    Observed,
)
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.sampling import Sampling
from tests.search.studies import by_nothing, made, observe, study


def test_uniform_groups_are_those_without_bounds_and_samplers():
    groups = [
        CandidateGroup(name="uniform", count=1),
        CandidateGroup(name="small", count=1, sampling=Sampling(budget="small")),
        CandidateGroup(name="spread", count=1, sampling=Sampling(kind="density")),
        CandidateGroup(name="dense", count=1, sampling=Sampling(density_from=0.5)),
        CandidateGroup(name="direct", count=1, sampling=Sampling(direct_above=0.5)),
        CandidateGroup(name="sized", count=1, sampling=Sampling(parameters=(1, 10**9))),
        CandidateGroup(name="sought", count=1, sampler="tpe"),
    ]
    result = study(made(by_nothing), groups=groups)
    assert Observed.from_result(result).uniform_groups == ("uniform",)
    assert Observed.from_result(result).budget_groups == ("uniform", "small")


def test_architecture_that_appears_twice_counts_once():
    result = study(made(by_nothing), n=5)
    twice = Observed.from_result(result.model_copy(update={"candidates": result.candidates * 2}))
    assert len(twice.observations) == 10
    assert [observation.candidate for observation in twice.uniform] == list(result.candidates)


def test_observation_is_what_the_spec_says():
    result = study(made(by_nothing), n=3)
    for observation, candidate in zip(observe(result), result.candidates, strict=True):
        spec = result.spec(candidate)
        share = sum(observation.bits) / 28  # no edge is dead in this space
        assert observation.density == spec.density == pytest.approx(share)
        assert (observation.direct, observation.skip) == spec.convs("cell")
        assert observation.share == observation.direct / observation.convs
