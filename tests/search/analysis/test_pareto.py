"""The Pareto front has the candidates that no other candidate beats."""

from __future__ import annotations

from robnet_zoo.search.analysis import (
    front,
)
from tests.search.studies import by_density, made, observe, study


def test_front_is_what_nothing_else_beats():
    observations = observe(study(made(by_density(1, noise=0.1)), n=60))
    points = {(observation.multiply_adds, observation.robust) for observation in front(observations).points}
    for observation in observations:
        beaten = any(
            other.multiply_adds <= observation.multiply_adds
            and other.robust >= observation.robust
            and (other.multiply_adds, other.robust) != (observation.multiply_adds, observation.robust)
            for other in observations
        )
        assert ((observation.multiply_adds, observation.robust) in points) != beaten
