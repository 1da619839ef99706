"""Searching a table: methods of search compared where an evaluation is a lookup, so that many seeds take seconds.

The table is one of NAS-Bench-201's cells (`robnet_zoo.search.analysis.tables`). All 5^6 α are searched; a table has one
of several α that mean the same, and the others get its accuracy.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import optuna
from pydantic import Field

from robnet_zoo.core.documents import Document, Tuple, nearest, shown
from robnet_zoo.core.files import file_sha256
from robnet_zoo.core.statistics import IntervalEstimate
from robnet_zoo.errors import ArgumentError, DocumentError
from robnet_zoo.search.analysis.estimates import mean
from robnet_zoo.search.analysis.tables import CONVOLUTIONS, EDGES, ROBUST, read_operations

DIGITS = "01234"
# The names by which the authors of NAS-Bench-201 sort the terms of a node, and so tell α apart.
NAMES = MappingProxyType({"2": "nor_conv_1x1", "3": "nor_conv_3x3", "4": "avg_pool_3x3"})
ZERO = "#"
POPULATION, TOURNAMENT = 20, 5  # of evolution
MOST = 10_000  # evaluations, and seeds
ASKED = 50  # proposals for an evaluation, of which all but one are known: then the search has ended
CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 500, 1000)

Proposals = Generator[str, float, None]  # yields α as six digits, and is sent the accuracy
Accuracies = Mapping[str, float]


class Progress(Document):
    """How good the best architecture is that a method knows, after each number of evaluations.

    Args:
        method: its name.
        best: the mean over seeds of the best accuracy, one for each of `LookupResult.evaluations`.
    """

    method: str
    best: Tuple[IntervalEstimate]


class LookupResult(Document):
    """Methods of search on a table.

    Args:
        space: the table's name.
        file_sha256: of the table.
        robust: the column of the accuracies.
        cells: how many it has.
        best: the best accuracy in it.
        seeds: how often each method searched.
        evaluations: after how many the methods are compared. A known architecture is not evaluated again.
    """

    space: str
    file_sha256: str
    robust: str
    cells: int
    best: float
    seeds: int
    evaluations: Tuple[Annotated[int, Field(ge=1)]]
    progress: Tuple[Progress]


def meaning(digits: str) -> str:
    """Return a text that α of NAS-Bench-201 share if they mean the same cell, as its authors tell them apart.

    Each node is the sorted sum of its edges; an identity passes a node on, and what none carries is zero.
    """
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for (source, end), digit in zip(EDGES, digits, strict=True):
            if end == target:
                if digit == "0" or nodes[source] == ZERO:
                    terms.append(ZERO)
                else:
                    terms.append(nodes[source] if digit == "1" else f"({nodes[source]})@{NAMES[digit]}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def all_accuracies(table: Mapping[str, float], *, source: str) -> dict[str, float]:
    """Return the accuracy of every α of the space. source: names the table in messages.

    Raises: DocumentError if the table lacks a cell.
    """
    known = {meaning(digits): accuracy for digits, accuracy in table.items()}
    every = ["".join(digits) for digits in product(DIGITS, repeat=len(EDGES))]
    lacking = next((digits for digits in every if meaning(digits) not in known), None)
    if lacking is not None:
        raise DocumentError([f"expected all cells of NAS-Bench-201, got none that means {lacking}"], source=source)
    return {digits: known[meaning(digits)] for digits in every}


def uniform(seed: int) -> Proposals:
    """Propose α at random."""
    draw = random.Random(seed)
    while True:
        yield _drawn(draw)


def evolution(seed: int) -> Proposals:
    """Propose α by regularised evolution (Real et al., AAAI 2019).

    The best of some members of the population has a child, in which one edge differs and which replaces the oldest.
    """
    draw = random.Random(seed)
    population: deque[tuple[float, str]] = deque(maxlen=POPULATION)
    while True:
        if len(population) < POPULATION:
            child = _drawn(draw)
        else:
            _, parent = max(draw.sample(list(population), TOURNAMENT))
            edge = draw.randrange(len(EDGES))
            other = draw.choice([digit for digit in DIGITS if digit != parent[edge]])
            child = parent[:edge] + other + parent[edge + 1 :]
        accuracy = yield child
        population.append((accuracy, child))


def tpe(seed: int) -> Proposals:
    """Propose α by the tree-structured Parzen estimator of Optuna (Bergstra et al., NeurIPS 2011)."""
    return _by_optuna(optuna.samplers.TPESampler(seed=seed, multivariate=True), cheap=False)


def nsga2(seed: int) -> Proposals:
    """Propose α by NSGA-II of Optuna (Deb et al., 2002), for accuracy and few convolutions."""
    return _by_optuna(optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION), cheap=True)


METHODS: Mapping[str, Callable[[int], Proposals]] = MappingProxyType(
    {"uniform": uniform, "tpe": tpe, "nsga2": nsga2, "evolution": evolution}
)


def best_so_far(proposals: Proposals, accuracies: Accuracies, evaluations: int) -> list[float]:
    """Return the best accuracy after each evaluation; (evaluations,).

    A proposal that means a known cell is answered, and is not an evaluation. A method that proposes known cells alone
    has ended.

    Args:
        proposals: the cells that a method asks for; it is sent their accuracies.
        accuracies: of all cells.
        evaluations: how many the method has.
    """
    known: dict[str, float] = {}
    best: list[float] = []
    digits = next(proposals)
    for _ in range(ASKED * evaluations):
        accuracy = accuracies[digits]
        if (cell := meaning(digits)) not in known:
            known[cell] = accuracy
            best.append(max(accuracy, best[-1]) if best else accuracy)
            if len(best) == evaluations:
                break
        digits = proposals.send(accuracy)
    proposals.close()
    return best + best[-1:] * (evaluations - len(best))


def search_table(
    path: str | os.PathLike[str],
    *,
    robust: str = ROBUST,
    evaluations: int = 100,
    seeds: int = 50,
    methods: Iterable[str] = tuple(METHODS),
) -> LookupResult:
    """Search a table by several methods, each with several seeds.

    Args:
        path: of the table.
        robust: its column of accuracies.
        evaluations: of a search.
        seeds: how many searches a method has.
        methods: out of METHODS.

    Raises:
        ArgumentError: fewer than one evaluation, than two seeds, or an unknown method.
        DocumentError: a file that is not such a table, or lacks cells.
    """
    chosen = tuple(methods)
    for name, number, least in (("evaluations", evaluations, 1), ("seeds", seeds, 2)):
        if not least <= number <= MOST:
            raise ArgumentError(f"{name}: expected {least} to {MOST:,}, got {number}")
    for name in chosen:
        if name not in METHODS:
            raise ArgumentError(f"methods: unknown method {shown(name)}{nearest(name, METHODS)}")
    table = read_operations(path, robust=robust)
    accuracies = all_accuracies(table, source=os.fsdecode(path))
    points = [count for count in CHECKPOINTS if count < evaluations] + [evaluations]
    progress = []
    for name in chosen:
        searches = [best_so_far(METHODS[name](seed), accuracies, evaluations) for seed in range(seeds)]
        best = tuple(_mean([search[count - 1] for search in searches]) for count in points)
        progress.append(Progress(method=name, best=best))
    return LookupResult(
        space=Path(path).stem,
        file_sha256=file_sha256(Path(path)),
        robust=robust,
        cells=len(table),
        best=max(table.values()),
        seeds=seeds,
        evaluations=tuple(points),
        progress=tuple(progress),
    )


def _mean(values: Sequence[float]) -> IntervalEstimate:
    return mean([round(value, 12) for value in values])


def _drawn(draw: random.Random) -> str:
    return "".join(draw.choice(DIGITS) for _ in EDGES)


def _by_optuna(sampler: optuna.samplers.BaseSampler, *, cheap: bool) -> Proposals:
    """Propose what a sampler of Optuna asks for. cheap: whether few convolutions are an objective too."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"] if cheap else ["maximize"])
    choices: dict[str, optuna.distributions.BaseDistribution] = {
        f"{source}->{target}": optuna.distributions.CategoricalDistribution(tuple(DIGITS)) for source, target in EDGES
    }
    while True:
        trial = study.ask(choices)
        digits = "".join(trial.params[edge] for edge in choices)
        accuracy = yield digits
        study.tell(trial, [accuracy, sum(digit in CONVOLUTIONS for digit in digits)] if cheap else accuracy)
