"""Models measured on the same images, compared image by image: the section of a report, and all of it as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.core.statistics import Comparison, compare_pairs
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import ReportError
from robnet_zoo.reports.elements import Column, Notices, Report, Section, Table, TableCell, TableRow
from robnet_zoo.reports.robustness.labelled import CLEAN, WORST, LabelledResult, columns, groups, labelled
from robnet_zoo.reports.robustness.tables import signed

SIGNIFICANCE = 0.05
MANY = 10  # documents, up to which every two of them are compared in a report
TITLE = "Paired comparisons"
COMPARED = "Models measured on the same images, compared image by image."


class _Pair(NamedTuple):
    """Two documents whose outcomes under an attack were compared. n: the number of images."""

    first: LabelledResult
    second: LabelledResult
    attack: str
    n: int
    test: Comparison

    @property
    def points(self) -> float:
        """Return the difference of the accuracies, in percentage points."""
        return 100 * (self.test.first - self.test.second) / self.n


@dataclass(frozen=True, eq=False)
class _Contest:
    """Documents whose outcomes under an attack can be compared image by image.

    Args:
        outcomes: (documents, images), 1 where the model is right.
    """

    attack: str
    entries: Sequence[LabelledResult]
    outcomes: npt.NDArray[np.int8]

    @property
    def crowded(self) -> bool:
        """Return whether there are too many documents to show every two of them."""
        return len(self.entries) > MANY

    @property
    def size(self) -> int:
        """Return the number of pairs of different models."""
        alike = Counter(entry.result.model for entry in self.entries)
        return comb(len(self.entries), 2) - sum(comb(count, 2) for count in alike.values())

    def every_pair(self) -> Iterator[_Pair]:
        """Yield all pairs, in the order of the documents."""
        yield from self._compared(list(combinations(range(len(self.entries)), 2)))

    def with_the_best(self) -> Iterator[_Pair]:
        """Yield the pairs of the document with most images right and each other."""
        best = int(self.outcomes.sum(1, dtype=np.int64).argmax())
        yield from self._compared([(best, other) for other in range(len(self.entries)) if other != best])

    def _compared(self, indices: Sequence[tuple[int, int]]) -> Iterator[_Pair]:
        entries = self.entries
        different = [(i, j) for i, j in indices if entries[i].result.model != entries[j].result.model]
        for (i, j), test in zip(different, compare_pairs(self.outcomes, different), strict=True):
            yield _Pair(entries[i], entries[j], self.attack, self.outcomes.shape[1], test)


def comparisons(entries: Sequence[LabelledResult]) -> Table | Notices | None:
    """Return the comparisons of a report, or None if no two models were measured on the same images.

    Every two models are compared under each attack that both have. Where more than MANY documents are comparable, each
    is compared with the best of them alone, so that a report grows with the number of documents and not its square.
    Comparisons with p = 1 are only counted.
    """
    contests = _contests(entries)
    shown = [
        pair for contest in contests for pair in (contest.with_the_best() if contest.crowded else contest.every_pair())
    ]
    note = ""
    if any(contest.crowded for contest in contests):
        note = f"Where more than {MANY} documents can be compared, each stands here beside the most accurate alone; "
        note += "robnet-zoo report --comparisons FILE writes all comparisons."
    telling = [pair for pair in shown if pair.test.p < 1]
    if shown and not telling:
        return Notices(
            (), f"{counted(len(shown), 'comparison')}, each with p = 1 by McNemar's exact test: no difference."
        )
    if len(telling) < len(shown):
        note += f" {counted(len(shown) - len(telling), 'comparison')} with p = 1 left out."
    return _table(contests, telling, note.strip())


def comparisons_report(results: Sequence[Result]) -> Report:
    """Return the comparisons of every two models measured on the same images, under each attack that both have.

    Raises: ReportError where there are no two such models.
    """
    contests = _contests(labelled(results))
    pairs = [pair for contest in contests for pair in contest.every_pair()]
    table = _table(contests, pairs)
    if table is None:
        raise ReportError("expected two models measured on the same images, got none that can be compared")
    rows = tuple(_figures(pair, len(pairs)) for pair in pairs)
    return Report(TITLE, COMPARED, (Section("comparisons", TITLE, "", (table,)),), rows)


def _contests(entries: Sequence[LabelledResult]) -> list[_Contest]:
    """Return what can be compared, attack by attack. Outcomes that a model has in several documents count once."""
    usable = [entry for entry in entries if entry.whole and entry.white_box]
    contests = []
    for attack in columns(usable):
        measured = [entry for entry in usable if attack in entry.measurements]
        for members in groups(measured, partial(_circumstances, attack)).values():
            once = {(entry.result.model, entry.measurements[attack].correct): entry for entry in reversed(members)}
            different = list(reversed(once.values()))
            if len({entry.result.model for entry in different}) > 1:
                outcomes = np.array([entry.measurements[attack].correct for entry in different], dtype=np.int8)
                contests.append(_Contest(attack, different, outcomes))
    return contests


def _circumstances(attack: str, entry: LabelledResult) -> tuple[object, ...]:
    """Return what must be equal where outcomes are compared image by image."""
    eps = None if attack == CLEAN else entry.result.protocol.eps_value
    attacks = frozenset(entry.measurements) - {CLEAN, WORST} if attack == WORST else None
    return entry.result.data, len(entry.measurements[attack].correct), eps, attacks


def _table(contests: Sequence[_Contest], pairs: Sequence[_Pair], note: str = "") -> Table | None:
    """Return pairs as a table, or None if there are none. The level of all contests' pairs holds for each of them."""
    if not pairs:
        return None
    count = sum(contest.size for contest in contests)
    tests = f"1 comparison: told apart where p < {SIGNIFICANCE}."
    if count > 1:
        tests = f"{count:,} comparisons: told apart where p < {SIGNIFICANCE} / {count:,} (Bonferroni)."
    labels = ("first", "second", "under", "only first right", "only second right", "difference, points", "p", "reading")
    return Table(
        "McNemar's exact test, two-sided, on the outcomes image by image",
        tuple(Column(label, numeric=label not in ("first", "second", "under", "reading")) for label in labels),
        tuple(_row(pair, count) for pair in pairs),
        f"{tests} {note}".rstrip(),
    )


def _row(pair: _Pair, count: int) -> TableRow:
    """Return the row of a pair, of `count` pairs in all."""
    first, test = pair.first, pair.test
    conditions = first.data if pair.attack == CLEAN else first.conditions
    return TableRow(
        (
            TableCell(first.model, first.model),
            TableCell(pair.second.model, pair.second.model),
            TableCell(pair.attack, pair.attack, conditions),
            TableCell(str(test.first), test.first),
            TableCell(str(test.second), test.second),
            TableCell(signed(pair.points), pair.points),
            TableCell("< 0.0001" if test.p < 1e-4 else f"{test.p:.4f}", test.p),
            TableCell(_reading(pair, count)),
        )
    )


def _reading(pair: _Pair, count: int) -> str:
    better = "first" if pair.test.first > pair.test.second else "second"
    return f"{better} is better" if pair.test.p < SIGNIFICANCE / count else "not told apart"


def _figures(pair: _Pair, count: int) -> dict[str, object]:
    """Return the row of a pair in a CSV file. level: the p below which two models are told apart."""
    result = pair.first.result
    return {
        "first": pair.first.model,
        "second": pair.second.model,
        "attack": pair.attack,
        "eps": None if pair.attack == CLEAN else result.protocol.eps,
        "data": result.data.name,
        "data_sha256": result.data.sha256,
        "n": pair.n,
        "only_first_right": pair.test.first,
        "only_second_right": pair.test.second,
        "difference": pair.points / 100,
        "p": pair.test.p,
        "level": SIGNIFICANCE / count,
        "reading": _reading(pair, count),
        "first_sha256": result.model.weights,
        "second_sha256": pair.second.result.model.weights,
    }
