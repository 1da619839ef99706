"""What inherited and finetuned accuracy say about accuracy after training alone: rank correlations."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from robnet_zoo.core.documents import Document
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Correlation, spearman
from robnet_zoo.search.result import Accuracy, StandaloneResult

Measured = Literal["clean", "robust"]


class Inheritance(Document):
    """Rank correlations between the accuracies of the same candidates.

    Each is None if one of its two does not vary or fewer than four candidates have both. A filter leaves candidates
    without finetuning.

    Args:
        inherited, finetuned: of the accuracy with the supernet's weights, and after finetuning, with that of the
            candidates trained on their own.
        before_after: of the former two.
    """

    inherited: Correlation | None = None
    finetuned: Correlation | None = None
    before_after: Correlation | None = None


def inheritance(result: StandaloneResult, by: Measured = "robust") -> Inheritance:
    """Return the correlations of clean or of robust accuracy."""
    rows = [(each.candidate.before, each.candidate.after, each.standalone) for each in result.candidates]
    return Inheritance(
        inherited=_correlation([(before, alone) for before, _, alone in rows], by),
        finetuned=_correlation([(after, alone) for _, after, alone in rows], by),
        before_after=_correlation([(before, after) for before, after, _ in rows], by),
    )


def _correlation(pairs: list[tuple[Accuracy | None, Accuracy | None]], by: Measured) -> Correlation | None:
    known = [(getattr(x, by), getattr(y, by)) for x, y in pairs if x is not None and y is not None]
    with suppress(SearchError):
        return spearman([x for x, _ in known], [y for _, y in known])
    return None
