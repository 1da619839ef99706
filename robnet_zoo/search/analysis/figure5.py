"""Density against robust accuracy (paper, section 3.3 and figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.documents import Document
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Correlation, at_least, kendall, partial_spearman, spearman
from robnet_zoo.search.analysis.observations import Observation, finetuned


class Density(Document):
    """The correlation of `Genotype.density` with robust accuracy after finetuning.

    Dense architectures also have more convolutions, and so more parameters and multiply-adds. given_convs and
    given_multiply_adds are the rank correlations at equal numbers of those; None if they cannot be estimated.
    """

    spearman: Correlation
    kendall: Correlation | None = None
    given_convs: Correlation | None = None
    given_multiply_adds: Correlation | None = None


def density(observations: Sequence[Observation]) -> Density:
    """Return figure 5. Raises SearchError for fewer than 4 finetuned candidates and for values that do not vary."""
    done = finetuned(observations)
    at_least(4, len(done), what="finetuned candidates")
    dense, robust = [observation.density for observation in done], [observation.robust for observation in done]
    correlation = spearman(dense, robust)
    return Density(
        spearman=correlation,
        kendall=kendall(dense, robust) if len(done) > 4 else None,
        given_convs=given(dense, robust, [observation.convs for observation in done]),
        given_multiply_adds=given(dense, robust, [float(observation.multiply_adds) for observation in done]),
    )


def given(x: Sequence[float], y: Sequence[float], at: Sequence[float]) -> Correlation | None:
    """Return the partial rank correlation of x and y at equal `at`, or None if it cannot be estimated.

    Args:
        x: (n,).
        y: (n,).
        at: (n,), what is held equal.
    """
    try:
        return partial_spearman(x, y, at)
    except SearchError:
        return None
