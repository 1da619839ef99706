"""The paper's findings on tables of adversarially trained cells of other search spaces.

A table is a CSV file with a header, or a JSON file with a list of objects. A row is a trained cell, in one of these
columns:

- `operations`, of NAS-Bench-201: a digit for each of the edges 0->1, 0->2, 1->2, 0->3, 1->3 and 2->3, where 0 is none,
  1 identity, 2 a 1x1 and 3 a 3x3 convolution, 4 average pooling;
- `genotype`, of DARTS' space: the text `Genotype(normal=[...], ...)`, in JSON also an object of its fields; a column
  `layers` says in how many cells it was trained, by default 20;
- `spec`: a spec of this package.

Other columns hold accuracies, as shares of 1 or, if one of a column is above 1, in percent.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from robnet_zoo.converters.darts import from_darts, genotypes_of
from robnet_zoo.core.documents import Document, Tuple, nearest, parse_json, read_bytes, shown
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import DocumentError, SearchError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.search.analysis.estimates import Correlation, partial_spearman, spearman
from robnet_zoo.search.analysis.findings import ENOUGH, Evidence, verdict
from robnet_zoo.search.analysis.observations import Observation, finetuned

MAX_BYTES = 2**27
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # of NAS-Bench-201
CONVOLUTIONS = "23"  # its digits of convolutions
ROBUST, CLEAN = "robust", "clean"
CellT = TypeVar("CellT", str, Genotype)


@dataclass(frozen=True)
class TrainedCell:
    """A trained architecture in numbers.

    Args:
        density: the share of (edge, operation) pairs that are on.
        direct, skip: convolutions per cell on either kind of edge, the mean over depths.
        robust, clean: accuracies, as shares of 1; clean may be unknown.
    """

    density: float
    direct: float
    skip: float
    robust: float
    clean: float | None = None

    @property
    def convs(self) -> float:
        """Return the convolutions per cell."""
        return self.direct + self.skip

    @property
    def share(self) -> float:
        """Return the share of the convolutions on direct edges, of a cell that has a convolution."""
        return self.direct / self.convs


class SpaceFindings(Document):
    """What a set of trained cells says about the paper's claims on density and convolutions.

    Args:
        space: its name.
        file_sha256: of the table, where the cells are from one.
        robust, clean: the columns of the accuracies.
        n: how many cells there are.
        evidence: rank correlations; those that decide are about a claim of the paper.
    """

    space: str
    file_sha256: str | None = None
    robust: str = ROBUST
    clean: str | None = None
    n: int
    evidence: Tuple[Evidence]


def table_findings(
    path: str | os.PathLike[str], *, robust: str = ROBUST, clean: str | None = None, space: str | None = None
) -> SpaceFindings:
    """Return what a table says.

    Args:
        path: of the CSV or JSON file.
        robust, clean: the columns of the accuracies; by default `robust`, and `clean` if there is one.
        space: its name, by default the file's stem.

    Raises: DocumentError for a file that is not such a table; its line names the row and the column.
    """
    cells, clean = read_table(path, robust=robust, clean=clean)
    name = Path(path).stem if space is None else space
    evidence = judge(cells)
    return SpaceFindings(
        space=name, file_sha256=file_sha256(Path(path)), robust=robust, clean=clean, n=len(cells), evidence=evidence
    )


def study_findings(space: str, observations: Iterable[Observation]) -> SpaceFindings:
    """Return what the finetuned candidates of a study say, in the same numbers. space: its name."""
    cells = [
        TrainedCell(each.density, each.direct, each.skip, each.robust, each.after.clean)
        for each in finetuned(observations)
    ]
    return SpaceFindings(space=space, clean=CLEAN, n=len(cells), evidence=judge(cells))


def judge(cells: Sequence[TrainedCell]) -> tuple[Evidence, ...]:
    """Return the rank correlations of density, convolutions, direct convolutions and clean with robust accuracy.

    Three of them decide: those of density (paper, section 3.3), of the number of convolutions (figure 6a), and of the
    share of direct convolutions at equal numbers of convolutions (section 3.4).
    """
    with_convs = [cell for cell in cells if cell.convs]
    known = [cell for cell in cells if cell.clean is not None]
    return (
        _evidence("density", cells, lambda cell: cell.density, deciding=True),
        _evidence("density at equal numbers of convolutions", cells, lambda cell: cell.density, given=True),
        _evidence("convolutions", cells, lambda cell: cell.convs, deciding=True),
        _evidence(
            "share of direct convolutions at equal numbers of convolutions",
            with_convs,
            lambda cell: cell.share,
            given=True,
            deciding=True,
        ),
        *(
            _evidence(f"share of direct convolutions, {convs:g} a cell", alike, lambda cell: cell.share)
            for convs, alike in _by_convs(with_convs)
        ),
        _evidence("clean accuracy", known, lambda cell: cell.clean or 0.0),
    )


def _by_convs(cells: Iterable[TrainedCell]) -> list[tuple[float, list[TrainedCell]]]:
    """Return the cells with each number of convolutions that enough have, and whose shares differ."""
    groups: dict[float, list[TrainedCell]] = {}
    for cell in cells:
        groups.setdefault(cell.convs, []).append(cell)
    return [
        (convs, alike)
        for convs, alike in sorted(groups.items())
        if len(alike) >= ENOUGH and len({cell.share for cell in alike}) > 1
    ]


def _evidence(
    name: str,
    cells: Sequence[TrainedCell],
    number: Callable[[TrainedCell], float],
    *,
    given: bool = False,
    deciding: bool = False,
) -> Evidence:
    """Return the rank correlation of a number with robust accuracy, or why there is none.

    given: whether it is at equal numbers of convolutions.
    """
    numbers, robust = [number(cell) for cell in cells], [cell.robust for cell in cells]
    estimate: Correlation | None = None
    missing = ""
    try:
        estimate = (
            partial_spearman(numbers, robust, [cell.convs for cell in cells]) if given else spearman(numbers, robust)
        )
    except SearchError as error:
        missing = str(error)
    return Evidence(name=name, estimate=estimate, verdict=verdict(estimate), deciding=deciding, missing=missing)


def read_table(
    path: str | os.PathLike[str], *, robust: str = ROBUST, clean: str | None = None
) -> tuple[list[TrainedCell], str | None]:
    """Return the cells of a table, and the column of the clean accuracies, if there is one.

    Args:
        path: a CSV or JSON file.
        robust, clean: the columns of the accuracies.

    Raises: DocumentError as `table_findings`.
    """
    table = _read(path, robust=robust, clean=clean)
    rows = zip(table.cells, table.robust, table.clean, strict=True)
    cells = [TrainedCell(*_numbers(cell), attacked, unattacked) for cell, attacked, unattacked in rows]
    return cells, table.clean_column


def read_operations(path: str | os.PathLike[str], *, robust: str = ROBUST) -> dict[str, float]:
    """Return the accuracies of a table of NAS-Bench-201's cells, by their six digits.

    Raises: DocumentError as `table_findings`.
    """
    return dict(_of_kind(path, str, "expected a column operations, of NAS-Bench-201's cells, got none", robust=robust))


def read_specs(path: str | os.PathLike[str], *, robust: str = ROBUST) -> list[tuple[Genotype, float]]:
    """Return the specs of a table of DARTS' cells or of specs, each with its robust accuracy.

    Raises: DocumentError as `table_findings`.
    """
    problem = "expected a column genotype or spec, as modules are built, got operations"
    return _of_kind(path, Genotype, problem, robust=robust)


def _of_kind(
    path: str | os.PathLike[str], kind: type[CellT], problem: str, *, robust: str
) -> list[tuple[CellT, float]]:
    """Return the cells of a table, each with its robust accuracy. Raises DocumentError with the problem for others."""
    table = _read(path, robust=robust)
    cells = [cell for cell in table.cells if isinstance(cell, kind)]
    if not cells:
        raise DocumentError([problem], source=os.fsdecode(path))
    return list(zip(cells, table.robust, strict=True))


class _Table(NamedTuple):
    """What a file holds: cells, all of them six digits or all specs, and their accuracies; clean may be unknown."""

    cells: Sequence[str | Genotype]
    robust: Sequence[float]
    clean: Sequence[float | None]
    clean_column: str | None


def _read(path: str | os.PathLike[str], *, robust: str, clean: str | None = None) -> _Table:
    """Read a table whole. Raises DocumentError as `table_findings`."""
    source = os.fsdecode(path)
    rows = _rows(read_bytes(path, limit=MAX_BYTES), source)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    kinds = [kind for kind in READERS if kind in columns]
    if len(kinds) != 1:
        expected = f"expected one column out of {', '.join(READERS)}"
        raise DocumentError([f"{expected}, got {' and '.join(kinds) or 'none'}"], source=source)
    if clean is None and CLEAN in columns:
        clean = CLEAN
    accuracies = {name: _accuracies(rows, name, columns, source) for name in (robust, clean) if name is not None}
    cells = []
    for index, row in enumerate(rows):
        try:
            cells.append(READERS[kinds[0]](row[kinds[0]], row))
        except (DocumentError, KeyError) as error:
            reasons = error.problems if isinstance(error, DocumentError) else ["missing"]
            raise DocumentError([f"row {index + 1}: {kinds[0]}: {reasons[0]}"], source=source) from None
    return _Table(cells, accuracies[robust], [None] * len(rows) if clean is None else accuracies[clean], clean)


def _rows(data: bytes, source: str) -> list[Mapping[str, Any]]:
    """Return the rows of a file. Raises DocumentError if it has none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DocumentError(["expected UTF-8 text"], source=source) from None
    rows: Any
    if text.lstrip().startswith(("[", "{")):
        rows = parse_json(text, source=source)
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise DocumentError([f"expected a list of objects, one a row, got {shown(rows)}"], source=source)
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise DocumentError([f"expected a CSV table, got another file: {error}"], source=source) from None
        for index, row in enumerate(rows):
            if None in row or None in row.values():
                raise DocumentError([f"row {index + 1}: expected as many values as the header has"], source=source)
    if not rows:
        raise DocumentError(["expected one or more rows, got none"], source=source)
    return rows


def _accuracies(rows: Sequence[Mapping[str, Any]], name: str, columns: Sequence[str], source: str) -> list[float]:
    """Return a column of accuracies as shares of 1."""
    if name not in columns:
        raise DocumentError([f"expected a column {shown(name)}{nearest(name, columns)}, got none"], source=source)
    values = []
    for index, row in enumerate(rows):
        given = row.get(name)
        value = math.nan
        if isinstance(given, str | int | float) and not isinstance(given, bool):
            try:
                value = float(given)
            except (ValueError, OverflowError):
                value = math.nan
        if not 0 <= value <= 100:
            expected = "expected an accuracy, 0 to 1 or in percent"
            raise DocumentError([f"row {index + 1}: {name}: {expected}, got {shown(given)}"], source=source)
        values.append(value)
    return [value / 100 for value in values] if max(values) > 1 else values


def _operations(given: Any, row: Mapping[str, Any]) -> str:
    """Return the six digits of a cell of NAS-Bench-201, whose edges carry an operation each."""
    if not isinstance(given, str) or re.fullmatch(r"[0-4]{6}", given) is None:
        raise DocumentError([f"expected six digits from 0 to 4, got {shown(given)}"])
    return given


def _genotype(given: Any, row: Mapping[str, Any]) -> Genotype:
    """Return the spec of a genotype of DARTS, a text or the object of its fields, in as many cells as its row says."""
    if isinstance(given, str):
        texts = list(genotypes_of(given).values()) if not given.lstrip().startswith("{") else [parse_json(given)]
        if len(texts) != 1:
            raise DocumentError([f"expected one genotype, got {len(texts)}"])
        given = texts[0]
    layers = row.get("layers", 20)
    if not re.fullmatch(r"[0-9]{1,3}", str(layers)) or int(layers) < 2:
        raise DocumentError([f"layers: expected a number of cells, 2 to 999, got {shown(layers)}"])
    return from_darts(given, name="row", channels=16, depth=int(layers), num_classes=10, stem="cifar")


def _spec(given: Any, row: Mapping[str, Any]) -> Genotype:
    """Return a spec, a JSON text or the object."""
    return Genotype.loads(given) if isinstance(given, str) else Genotype.parse(given)


def _numbers(cell: str | Genotype) -> tuple[float, float, float]:
    """Return (density, direct, skip) of six digits or a spec.

    The density of a spec is over all known operations, so that rows can be compared.
    """
    if isinstance(cell, str):
        convs = [edge for edge, digit in zip(EDGES, cell, strict=True) if digit in CONVOLUTIONS]
        direct = sum(target == source + 1 for source, target in convs)
        return sum(digit != "0" for digit in cell) / (4 * len(EDGES)), direct, len(convs) - direct
    depth = len(cell.layout)
    known = cell.density * len(cell.operations) / len(OPERATIONS)
    return round(known, 12), cell.direct_convs / depth, cell.skip_convs / depth


READERS: Mapping[str, Callable[[Any, Mapping[str, Any]], str | Genotype]] = {
    "operations": _operations,
    "genotype": _genotype,
    "spec": _spec,
}
