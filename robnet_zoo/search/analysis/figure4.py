"""The most and the least robust architectures: does α distinguish them (paper, section 3.3 and figure 4)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import stats
from sklearn.linear_model import SGDClassifier
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from robnet_zoo.core.documents import Document, Tuple
from robnet_zoo.core.statistics import IntervalEstimate, proportion
from robnet_zoo.errors import SearchError
from robnet_zoo.search.analysis.estimates import Floats
from robnet_zoo.search.analysis.observations import Observation, finetuned
from robnet_zoo.search.space import SearchSpace

SHARE = 0.3  # 300 of the paper's 1,000 at either end
LEAST = 5  # architectures at either end
FOLDS = 10
PERMUTATIONS = 1000
PERPLEXITY = 30.0

Labels = npt.NDArray[np.int64]


class Weight(Document):
    """The weight of an element of α. cell: its depth, in a cell-free space."""

    cell: int | None = None
    edge: str
    operation: str
    value: float


class LinearClassifier(Document):
    """A linear classifier of the most robust candidates (1) and the least robust ones (-1) by α (figure 4b).

    The intervals are those of independent outcomes; the weights of a classifier are not independent.

    Args:
        each: how many candidates have either label.
        training: the accuracy on the candidates that it was fitted to, which is what the paper gives.
        validated: the accuracy on candidates that it was not fitted to, by cross-validation; 0.5 is chance.
        folds: of the cross-validation.
        weights: of the elements of α.
        positive: the share of the weights above 0.
        p: the probability of a share as far from a half if signs were tossed like coins.
    """

    each: int
    training: IntervalEstimate
    validated: IntervalEstimate
    folds: int
    weights: Tuple[Weight]
    positive: IntervalEstimate
    p: Annotated[float, Field(ge=0, le=1)]


class Embedding(Document):
    """t-SNE of the same candidates' α (van der Maaten and Hinton, 2008; figure 4a), and a number for what it shows.

    Args:
        points: (x, y) of each candidate, the most robust first.
        labels: 1 or -1.
        neighbours: how often the nearest other candidate, by the number of elements of α that differ, has the same
            label. Candidates that are equally near are averaged.
        chance: what labels in random order give on average.
        p: the share of 1,000 random orders that give at least as much.
    """

    points: Tuple[Annotated[tuple[float, float], Field(strict=False)]]
    labels: Tuple[int]
    neighbours: float
    chance: float
    p: float


def ends(observations: Sequence[Observation], *, share: float = SHARE) -> tuple[list[Observation], Labels]:
    """Return the most robust candidates, then the least robust ones, and their labels, 1 and -1.

    share: of the finetuned candidates at either end. Raises SearchError for fewer than 5 at either end, and if the ends
    do not differ.
    """
    order = sorted(finetuned(observations), key=lambda observation: -observation.robust)
    each = round(share * len(order))
    if each < LEAST:
        needed = next(n for n in range(1, 10_000) if round(share * n) >= LEAST)
        raise SearchError(f"expected {needed} or more finetuned candidates, got {len(order)}")
    chosen = [*order[:each], *order[-each:]]
    if chosen[each - 1].robust <= chosen[each].robust:
        raise SearchError("expected more and less robust candidates, got the same robust accuracy at both ends")
    return chosen, np.repeat([1, -1], each).astype(np.int64)


def linear_classifier(
    observations: Sequence[Observation], space: SearchSpace, *, share: float = SHARE, seed: int = 0
) -> LinearClassifier:
    """Return figure 4b, by the paper's classifier (scikit-learn's SGDClassifier) with averaged weights.

    Args:
        observations: candidates, of which those that were finetuned count.
        space: the space of the candidates.
        share: of the finetuned candidates at either end.
        seed: of the classifier and of the folds.

    Raises: SearchError as `ends`.
    """
    chosen, labels = ends(observations, share=share)
    alpha = _alpha(chosen)
    model = SGDClassifier(average=True, random_state=seed)
    folds = min(FOLDS, len(labels) // 2)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    validated = cross_val_predict(model, alpha, labels, cv=split)
    model.fit(alpha, labels)
    values = [float(value) for value in model.coef_[0]]
    columns = [column.split(" ") for column in space.columns] * space.cells
    weights = [
        Weight(
            cell=None if space.kind == "cell_based" else position // space.bits,
            edge=edge,
            operation=operation,
            value=value,
        )
        for position, ((edge, operation), value) in enumerate(zip(columns, values, strict=True))
    ]
    above = sum(value > 0 for value in values)
    return LinearClassifier(
        each=len(labels) // 2,
        training=proportion(int((model.predict(alpha) == labels).sum()), len(labels)),
        validated=proportion(int((validated == labels).sum()), len(labels)),
        folds=folds,
        weights=tuple(weights),
        positive=proportion(above, len(values)),
        p=float(stats.binomtest(above, len(values)).pvalue),
    )


def embedding(observations: Sequence[Observation], *, share: float = SHARE, seed: int = 0) -> Embedding:
    """Return figure 4a.

    Args:
        observations: candidates, of which those that were finetuned count.
        share: of the finetuned candidates at either end.
        seed: of t-SNE and of the random orders.

    Raises: SearchError as `ends`.
    """
    chosen, labels = ends(observations, share=share)
    alpha = _alpha(chosen)
    perplexity = min(PERPLEXITY, (len(labels) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(alpha)
    nearest = _nearest(alpha)
    same = _same(nearest, labels)
    generator = np.random.default_rng(seed)
    shuffled = [_same(nearest, generator.permutation(labels)) for _ in range(PERMUTATIONS)]
    each = len(labels) // 2
    return Embedding(
        points=tuple((float(x), float(y)) for x, y in points),
        labels=labels.tolist(),
        neighbours=same,
        chance=(each - 1) / (2 * each - 1),
        p=(1 + sum(random >= same for random in shuffled)) / (1 + PERMUTATIONS),
    )


def _alpha(observations: Sequence[Observation]) -> Floats:
    return np.array([observation.bits for observation in observations], dtype=np.float64)  # (n, bits)


def _nearest(alpha: Floats) -> Floats:
    """Return (n, n): in each row, the nearest other rows share a 1."""
    bits_on = alpha.sum(axis=1)
    distance = bits_on[:, None] + bits_on[None, :] - 2 * alpha @ alpha.T
    np.fill_diagonal(distance, np.inf)
    nearest = (distance == distance.min(axis=1, keepdims=True)).astype(np.float64)
    return nearest / nearest.sum(axis=1, keepdims=True)


def _same(nearest: Floats, labels: Labels) -> float:
    """Return how often the nearest other candidate has the same label."""
    return float(0.5 + 0.5 * (labels @ nearest @ labels) / len(labels))
