"""The best candidates of a study as specs, with an index of their accuracies.

A study is a results document, or the folder of a search, finished or not: then candidates are read from the storage
that its workers share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from robnet_zoo.core.documents import Document, Tuple, nearest, shown
from robnet_zoo.core.files import write_atomically
from robnet_zoo.core.units import Share
from robnet_zoo.errors import ArgumentError, SearchError
from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.search.config import Branch, CandidateGroup, SearchConfig
from robnet_zoo.search.result import Candidate, StudyResult
from robnet_zoo.search.selection import Judged, provenance_of
from robnet_zoo.search.space import Kind

INDEX = "index.json"
CONFIG, STUDY = "config.json", "study.db"  # in a search's folder
Net = Literal["full", "search"]


class IndexedCell(Document):
    """A candidate that was written as a spec.

    Args:
        file: of the spec, beside the index.
        kind, group, index: which candidate it is.
        hash: of the spec.
        robust, clean: its accuracy after finetuning.
        inherited_robust, inherited_clean: its accuracy with the supernet's weights.
        parameters, multiply_adds, density, convolutions: of the spec; convolutions are all that it has.
        fsp: the mean FSP distance of its cells, if it was measured.
        seconds: how long the work on it took.
    """

    file: str
    kind: Kind
    group: str
    index: int
    hash: str
    robust: Share | None = None
    clean: Share | None = None
    inherited_robust: Share | None = None
    inherited_clean: Share | None = None
    parameters: int
    multiply_adds: int
    density: float
    convolutions: int
    fsp: Annotated[float, Field(ge=0)] | None = None
    seconds: float


class CellIndex(Document):
    """The best candidates of a study, by a column, best first in each branch.

    Args:
        search: the name of the search's config.
        by: the column that ranks them.
        network: whether specs are in the full network, as picks are, or in that of the search, which was measured.
        cells: the candidates.
    """

    search: str
    by: str
    network: Net
    cells: Tuple[IndexedCell]


# What ranks candidates, and whether more of it is better.
COLUMNS: Mapping[str, bool] = MappingProxyType(
    {
        "robust": True,
        "clean": True,
        "inherited_robust": True,
        "inherited_clean": True,
        "parameters": False,
        "multiply_adds": False,
        "density": True,
        "convolutions": True,
        "fsp": False,
        "seconds": False,
    }
)


def read_study(study: str | os.PathLike[str], *, storage: str | None = None) -> list[Judged]:
    """Return the candidates of a study that are done, by branch.

    Args:
        study: a results document, or the folder of a search.
        storage: where candidates of the folder's search are stored, as `storage.open_storage` takes it; by default in
            the folder, where a branch's results document is read if there is one.

    Raises: SearchError, DocumentError.
    """
    path = Path(study)
    if not path.is_dir():
        if storage is not None:
            raise SearchError(f"{path}: expected the folder of a search beside a storage, got a file")
        return [Judged.of_result(StudyResult.load(path))]
    if not (path / CONFIG).is_file():
        raise SearchError(f"{path}: expected the folder of a search, got one without {CONFIG}")
    config = SearchConfig.load(path / CONFIG)
    return [judged for branch in config.branches if (judged := _branch(path, config, branch, storage)) is not None]


def _branch(folder: Path, config: SearchConfig, branch: Branch, storage: str | None) -> Judged | None:
    """Return the candidates of a branch of a search, or None if it has not begun."""
    document = folder / f"{branch.kind}.json"
    if storage is None and document.is_file():
        return Judged.of_result(StudyResult.load(document))
    if storage is None and not (folder / STUDY).is_file():
        return None
    from robnet_zoo.search.candidates import CandidateSet
    from robnet_zoo.search.study import Study

    where, inputs, candidates = storage or str(folder / STUDY), dict[str, str](), list[Candidate]()
    for group in branch.groups:
        done: dict[int, Candidate] = {}
        for phase in _phases(group):
            wanted = CandidateSet(config, branch.kind, group, None if group.sampler else (), phase)
            stored = Study.stored(where, wanted)
            if stored is None:
                continue
            with stored:
                inputs = stored.inputs
                done |= {candidate.index: candidate for candidate in stored.candidates()}
        candidates += [done[index] for index in sorted(done)]
    if not candidates:
        return None
    return Judged(
        config=config,
        kind=branch.kind,
        candidates=tuple(candidates),
        supernet=inputs.get("supernet"),
        data=f"the images {inputs['images'][:12]}" if "images" in inputs else "unknown images",
        trained=f"at most {config.evaluation.images:,} images",
    )


def _phases(group: CandidateGroup) -> tuple[str, ...]:
    """Return the phases of the work on a group, as the pipeline names them; a later one has more of a candidate."""
    return ("",) if group.filter is None else ("scores", "finetuned")


@dataclass(frozen=True)
class ChosenCells:
    """The index of the chosen candidates, and their specs in the same order."""

    index: CellIndex
    specs: tuple[Genotype, ...]

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the specs and `index.json`, and return their paths. What is there already with this content stays.

        Raises: SearchError, before anything is written, if a file of that name has another content.
        """
        folder = Path(folder)
        rows = zip(self.index.cells, self.specs, strict=True)
        texts = {row.file: spec.dumps() for row, spec in rows} | {INDEX: self.index.dumps()}
        for name, text in texts.items():
            path = folder / name
            if os.path.lexists(path) and not (path.is_file() and path.read_bytes() == text.encode()):
                raise SearchError(f"{path}: exists with other content; choose another folder")
        for name, text in texts.items():
            if not (folder / name).exists():
                write_atomically(folder / name, text.encode())
        return [folder / name for name in texts]


def choose_cells(
    study: str | os.PathLike[str],
    *,
    count: int = 20,
    by: str = "robust",
    kind: Kind | None = None,
    group: str | None = None,
    network: Net = "full",
    storage: str | None = None,
) -> ChosenCells:
    """Return the best candidates of each branch of a study as specs.

    Accuracies of two branches are of different networks, so each has its own candidates. An architecture that several
    groups have drawn is taken once.

    Args:
        study: a results document, or the folder of a search.
        count: how many candidates of a branch, at most.
        by: out of COLUMNS; candidates that lack it are left out.
        kind: of the only branch that is wanted.
        group: the only group that is wanted.
        network: whether specs are in the full network, as picks are, or in that of the search.
        storage: as `read_study` takes it.

    Raises:
        ArgumentError: a count below 1, or an unknown column.
        SearchError: a study without such candidates.
        DocumentError: a document that cannot be read.
    """
    if count < 1:
        raise ArgumentError(f"count: expected 1 or more, got {count}")
    if by not in COLUMNS:
        raise ArgumentError(f"by: unknown column {shown(by)}{nearest(by, COLUMNS)}")
    branches = read_study(study, storage=storage)
    kinds = [judged.kind for judged in branches]
    if kind is not None and branches and kind not in kinds:
        raise SearchError(f"{os.fsdecode(study)}: expected a branch of {' or '.join(kinds)}, got {kind}")
    branches = [judged for judged in branches if kind in (None, judged.kind)]
    groups = [each.name for judged in branches for each in judged.config.branch(judged.kind).groups]
    if group is not None and branches and group not in groups:
        raise SearchError(f"{os.fsdecode(study)}: unknown group {shown(group)}{nearest(group, groups)}")
    rows: list[tuple[IndexedCell, Genotype]] = []
    for judged in branches:
        wanted = [each for each in judged.candidates if group in (None, each.group)]
        rows += _best((_row(judged, candidate, network) for candidate in wanted), by=by, count=count)
    if not rows:
        raise SearchError(f"{os.fsdecode(study)}: expected candidates with {by}, got none")
    cells, specs = zip(*rows, strict=True)
    return ChosenCells(CellIndex(search=branches[0].config.name, by=by, network=network, cells=cells), specs)


def _best(rows: Iterable[tuple[IndexedCell, Genotype]], *, by: str, count: int) -> list[tuple[IndexedCell, Genotype]]:
    """Return the best rows by a column, at most one of each architecture; among equals the more robust, then the order.

    Args:
        rows: of a branch.
        by: the column.
        count: how many, at most.
    """
    sign = -1 if COLUMNS[by] else 1

    def key(row: tuple[IndexedCell, Genotype]) -> tuple[float, float, float]:
        cell = row[0]
        return sign * getattr(cell, by), -(cell.robust or 0.0), -(cell.clean or 0.0)

    ranked = sorted((row for row in rows if getattr(row[0], by) is not None), key=key)
    distinct: dict[str, tuple[IndexedCell, Genotype]] = {}
    for row in ranked:
        distinct.setdefault(row[0].hash, row)
    return list(distinct.values())[:count]


def _row(judged: Judged, candidate: Candidate, network: Net) -> tuple[IndexedCell, Genotype]:
    """Return a candidate's line of the index, and its spec."""
    name = f"{judged.kind}_{candidate.group}_{candidate.index}"
    spec = judged.config.space(judged.kind).genotype(
        candidate.codes,
        name=name,
        network=judged.config.full if network == "full" else None,
        provenance=provenance_of(judged, candidate, source=f"candidate {candidate.index} of {candidate.group}"),
    )
    before, after = candidate.before, candidate.after
    row = IndexedCell(
        file=f"{name}.json",
        kind=judged.kind,
        group=candidate.group,
        index=candidate.index,
        hash=spec.hash,
        robust=None if after is None else after.robust,
        clean=None if after is None else after.clean,
        inherited_robust=None if before is None else before.robust,
        inherited_clean=None if before is None else before.clean,
        parameters=parameters(spec),
        multiply_adds=multiply_adds(spec),
        density=spec.density,
        convolutions=spec.direct_convs + spec.skip_convs,
        fsp=sum(candidate.fsp) / len(candidate.fsp) if candidate.fsp else None,
        seconds=candidate.seconds,
    )
    return row, spec
