"""Robust accuracy for the price: the Pareto front."""

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
    """Of n finetuned candidates those that none is as robust as with fewer multiply-adds; fewest first."""

    n: int
    points: Tuple[FrontPoint]


def front(observations: Sequence[Observation]) -> Front:
    """The Pareto front of robust accuracy and multiply-adds. Of equals, the first.

    Raises SearchError without a finetuned candidate.
    """
    done = finetuned(observations)
    at_least(1, len(done), of="finetuned candidates")
    points: list[FrontPoint] = []
    for one in sorted(done, key=lambda one: (one.multiply_adds, -one.robust)):
        if not points or one.robust > points[-1].robust:
            points.append(
                FrontPoint(
                    group=one.candidate.group,
                    index=one.candidate.index,
                    robust=one.robust,
                    multiply_adds=one.multiply_adds,
                    parameters=one.parameters,
                )
            )
    return Front(n=len(done), points=tuple(points))
