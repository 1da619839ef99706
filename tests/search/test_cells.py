"""Candidates as specs: the best of a study, finished or not, wherever it is stored, and nothing of others is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.errors import ArgumentError, SearchError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.search import choose_cells
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.cells import CellIndex
from robnet_zoo.search.config import CandidateGroup, Filter
from robnet_zoo.search.result import Accuracy, StudyResult
from robnet_zoo.search.study import Study, work
from tests.search.crew import config, judged
from tests.search.studies import FULL, SMALL, by_density, made, study, with_distances


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return study(made(by_density(1)), n=12)


@pytest.fixture
def document(result: StudyResult, tmp_path: Path) -> Path:
    result.save(tmp_path / "cell_based.json")
    return tmp_path / "cell_based.json"


def robust_of(result: StudyResult) -> list[float]:
    return sorted((each.after.robust for each in result.candidates if each.after), reverse=True)


def test_the_best_candidates_come_first_at_full_size_and_their_specs_compile(
    result: StudyResult, document: Path, tmp_path: Path
) -> None:
    chosen = choose_cells(document, count=3)
    *files, index = chosen.save(tmp_path / "cells")
    cells = CellIndex.load(index).cells
    assert [cell.robust for cell in cells] == robust_of(result)[:3]
    for path, cell in zip(files, cells, strict=True):
        spec = Genotype.load(path)
        candidate = result.candidates[cell.index]
        assert (path.name, spec.hash, parameters(spec)) == (cell.file, cell.hash, cell.parameters)
        assert result.space.codes(spec) == candidate.codes
        assert spec.network.channels == FULL.channels
        assert spec.provenance.search == f"made_up/cell_based/uniform/{candidate.index}"
    assert sum(each.numel() for each in compile(Genotype.load(files[0])).parameters()) == cells[0].parameters


def test_specs_in_the_network_of_the_search_have_the_hash_of_their_candidates(
    result: StudyResult, document: Path
) -> None:
    chosen = choose_cells(document, network="search")
    assert len(chosen.specs) == 12
    assert {spec.hash for spec in chosen.specs} == {candidate.hash for candidate in result.candidates}
    assert chosen.specs[0].network == SMALL


@pytest.mark.parametrize(("by", "most_first"), [("density", True), ("parameters", False), ("inherited_robust", True)])
def test_any_column_can_rank(document: Path, by: str, most_first: bool) -> None:
    numbers = [getattr(cell, by) for cell in choose_cells(document, by=by).index.cells]
    assert numbers == sorted(numbers, reverse=most_first)


def test_cell_free_candidates_that_were_not_finetuned_are_ranked_by_what_they_have(tmp_path: Path) -> None:
    study(with_distances([1.0] * SMALL.depth), n=4, kind="cell_free").save(tmp_path / "free.json")
    with pytest.raises(SearchError, match=r"free\.json: expected candidates with robust, got none"):
        choose_cells(tmp_path / "free.json")
    distances = [cell.fsp for cell in choose_cells(tmp_path / "free.json", by="fsp").index.cells]
    assert len(distances) == 4
    assert distances == sorted(distances)


def test_an_architecture_of_two_groups_is_written_once_with_its_better_figures(
    result: StudyResult, document: Path
) -> None:
    first = result.candidates[0]
    again = first.model_copy(update={"group": "again", "after": Accuracy(clean=1.0, robust=1.0)})
    groups = [*result.branch.groups, CandidateGroup(name="again", count=1)]
    config = result.config.overridden({"branches": [result.branch.model_dump() | {"groups": groups}]})
    result.model_copy(update={"config": config, "candidates": (*result.candidates, again)}).save(document)
    cells = choose_cells(document).index.cells
    assert len(cells) == 12
    assert cells[0].file == "cell_based_again_0.json"
    assert [cell.group for cell in choose_cells(document, group="again").index.cells] == ["again"]


def test_files_of_others_stay_and_nothing_is_written_beside_them(document: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    (folder / "index.json").write_text("mine")
    with pytest.raises(SearchError, match=r"index\.json: exists with other content; choose another folder"):
        choose_cells(document, count=2).save(folder)
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_writing_the_same_again_completes_what_an_interruption_left(document: Path, tmp_path: Path) -> None:
    chosen = choose_cells(document, count=2)
    paths = chosen.save(tmp_path / "cells")
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    assert [path.read_bytes() for path in chosen.save(tmp_path / "cells")] == before


def test_an_unfinished_study_of_any_storage_gives_what_is_done_so_far(where: str, tmp_path: Path) -> None:
    group = CandidateGroup(name="drawn", count=6)
    begun = config(group)
    begun.save(tmp_path / "config.json")
    wanted = CandidateSet.of_group(begun, "cell_based", group, inputs={"supernet": "ab" * 32, "images": "cd" * 32})
    with Study.open(where, wanted) as open_study:
        for _ in range(4):
            claim = open_study.claim()
            assert claim is not None
            claim.finish(judged(claim))
        best = max(each.after.robust for each in open_study.candidates() if each.after)
    chosen = choose_cells(tmp_path, storage=where)
    assert [len(chosen.specs), chosen.index.cells[0].robust] == [4, best]
    assert chosen.specs[0].provenance.state_sha256 == "ab" * 32
    assert "the images cdcdcdcdcdcd" in (chosen.specs[0].provenance.protocol or "")


def test_a_filtered_group_has_its_scores_and_what_was_finetuned_later(tmp_path: Path) -> None:
    group = CandidateGroup(name="free", count=3, filter=Filter(images=1))
    begun = config(group, kind="cell_free")
    begun.save(tmp_path / "config.json")
    scores = CandidateSet.of_group(begun, "cell_free", group, phase="scores")
    file = str(tmp_path / "study.db")
    with Study.open(file, scores) as first:
        work(first, lambda claim: claim.candidate.model_copy(update={"fsp": (0.5, 0.25)}))
        survivor = first.candidates()[1]
    with Study.open(file, scores.then([(1, survivor.codes)], phase="finetuned")) as second:
        work(second, judged)
    cells = choose_cells(tmp_path, by="density").index.cells
    assert sorted((cell.index, cell.robust is not None) for cell in cells) == [(0, False), (1, True), (2, False)]


def test_a_storage_of_another_search_or_none_is_refused_and_none_is_created(tmp_path: Path) -> None:
    group = CandidateGroup(name="drawn", count=2)
    config(group).save(tmp_path / "config.json")
    for storage in (str(tmp_path / "no.db"), f"journal:{tmp_path}/no.journal"):
        with pytest.raises(SearchError, match="expected a study, got no such file"):
            choose_cells(tmp_path, storage=storage)
    other = CandidateSet.of_group(config(group, seed=5), "cell_based", group)
    Study.open(str(tmp_path / "study.db"), other).close()
    with pytest.raises(SearchError, match="was begun with another config"):
        choose_cells(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "study.db"]


def test_what_cannot_be_chosen_is_one_line(document: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="by: unknown column \"robst\", did you mean 'robust'"):
        choose_cells(document, by="robst")
    with pytest.raises(ArgumentError, match="count: expected 1 or more, got 0"):
        choose_cells(document, count=0)
    with pytest.raises(SearchError, match="expected a branch of cell_based, got cell_free"):
        choose_cells(document, kind="cell_free")
    with pytest.raises(SearchError, match="unknown group \"unifrm\", did you mean 'uniform'"):
        choose_cells(document, group="unifrm")
    with pytest.raises(SearchError, match=r"expected the folder of a search, got one without config\.json"):
        choose_cells(tmp_path)
