"""Density against robust accuracy (paper, section 3.3 and figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.documents import Document
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Correlation, at_least, kendall, partial_spearman, spearman
from robnet_zoo.search.analysis.observations import Observation, finetuned


class Density(Document):
    """How `Genotype.density` goes with robust accuracy after finetuning.

    Dense architectures also have more convolutions, and so more parameters and multiply-adds: given_convs and
    given_multiply_adds are the rank correlations at equal numbers of those, none where that cannot be told.
    """

    spearman: Correlation
    kendall: Correlation | None = None
    given_convs: Correlation | None = None
    given_multiply_adds: Correlation | None = None


def density(observations: Sequence[Observation]) -> Density:
    """Figure 5. Raises SearchError for fewer than 4 finetuned candidates, and where one of the two does not vary."""
    done = finetuned(observations)
    at_least(4, len(done), of="finetuned candidates")
    dense, robust = [one.density for one in done], [one.robust for one in done]
    correlation = spearman(dense, robust)
    return Density(
        spearman=correlation,
        kendall=kendall(dense, robust) if len(done) > 4 else None,
        given_convs=given(dense, robust, [one.convs for one in done]),
        given_multiply_adds=given(dense, robust, [float(one.multiply_adds) for one in done]),
    )


def given(x: Sequence[float], y: Sequence[float], at: Sequence[float]) -> Correlation | None:
    """The partial rank correlation, none where it cannot be told."""
    try:
        return partial_spearman(x, y, at)
    except SearchError:
        return None
