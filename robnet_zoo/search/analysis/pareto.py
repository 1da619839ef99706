"""Robust accuracy and its price: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.search.analysis.estimates import at_least
from robnet_zoo.search.analysis.observations import Observation, finetuned


class FrontPoint(Document):
    """A candidate on the front. multiply_adds, parameters: in the search's network, for one image."""

    group: str
    index: int
    robust: float
    multiply_adds: int
    parameters: int


class Front(Document):
    """The finetuned candidates, of n, that no other with fewer multiply-adds equals in robustness; cheapest first."""

    n: int
    points: Tuple[FrontPoint]


def front(observations: Sequence[Observation]) -> Front:
    """Return the Pareto front of robust accuracy and multiply-adds. Among equals it has the first.

    Raises SearchError without a finetuned candidate.
    """
    done = finetuned(observations)
    at_least(1, len(done), what="finetuned candidates")
    points: list[FrontPoint] = []
    for observation in sorted(done, key=lambda observation: (observation.multiply_adds, -observation.robust)):
        if not points or observation.robust > points[-1].robust:
            points.append(
                FrontPoint(
                    group=observation.candidate.group,
                    index=observation.candidate.index,
                    robust=observation.robust,
                    multiply_adds=observation.multiply_adds,
                    parameters=observation.parameters,
                )
            )
    return Front(n=len(done), points=tuple(points))
