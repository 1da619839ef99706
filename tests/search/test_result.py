"""Results: a document of all candidates, from which their specs can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.errors import DocumentError
from robnet_zoo.search.config import CandidateGroup
from robnet_zoo.search.result import Accuracy, StudyResult
from tests.search.studies import SMALL, by_nothing, made, study


def test_a_result_is_a_document_that_can_be_written_and_read(tmp_path: Path) -> None:
    result = study(made(by_nothing), n=3)
    result.save(tmp_path / "result.json")
    assert StudyResult.load(tmp_path / "result.json") == result


def test_a_result_of_no_held_out_images_is_refused() -> None:
    document = study(made(by_nothing), n=3).model_dump(mode="json", exclude_none=True)
    with pytest.raises(DocumentError, match="validation: expected at least 1, got 0"):
        StudyResult.parse(document | {"validation": 0})


def test_a_candidate_gives_its_spec_in_the_network_of_the_search() -> None:
    result = study(made(by_nothing), n=3, kind="cell_free")
    for candidate in result.candidates:
        spec = result.spec(candidate)
        assert spec.hash == candidate.hash
        assert spec.network == SMALL
        assert spec.name == f"uniform_{candidate.index}"


def test_a_group_has_its_own_candidates_in_their_order() -> None:
    groups = [CandidateGroup(name="first", count=2), CandidateGroup(name="second", count=3)]
    result = study(made(by_nothing), groups=groups)
    assert [(candidate.group, candidate.index) for candidate in result.group("second")] == [
        ("second", index) for index in range(3)
    ]


def test_the_gap_is_clean_minus_robust() -> None:
    assert Accuracy(clean=0.75, robust=0.5).gap == pytest.approx(0.25)
