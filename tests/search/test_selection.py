"""Selection: the most robust candidate is picked, and its spec says where it is from."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.search.config import Pick
from robnet_zoo.search.result import Candidate
from robnet_zoo.search.selection import best, picks
from tests.search.studies import FULL, by_density, made, study

PICK = Pick(name="picked", group="uniform")


def test_the_most_robust_candidate_is_picked_at_full_size_with_its_provenance() -> None:
    result = study(made(by_density(1)), n=8, picks=[PICK])
    ((spec, candidate),) = picks(result)
    assert candidate == max(result.candidates, key=lambda each: each.after.robust if each.after else 0.0)
    assert candidate.after is not None
    assert result.space.codes(spec) == candidate.codes
    assert spec.network.channels == FULL.channels
    assert spec.provenance.search == f"made_up/cell_based/uniform/{candidate.index}"
    assert spec.provenance.state_sha256 == result.supernet_state_sha256
    assert f"{candidate.after.robust:.1%} robust" in (spec.provenance.protocol or "")


def test_a_result_without_finetuned_candidates_picks_nothing() -> None:
    result = study(made(by_density(1)), n=3, picks=[PICK])
    bare = tuple(candidate.model_copy(update={"after": None}) for candidate in result.candidates)
    message = "made_up/cell_based/uniform: expected candidates that were finetuned, got none"
    with pytest.raises(SearchError, match=message):
        picks(result.model_copy(update={"candidates": bare}))


def test_among_equally_robust_candidates_clean_accuracy_decides_and_then_the_index() -> None:
    (candidate,) = study(made(by_density(1)), n=1).candidates

    def with_accuracy(index: int, clean: float) -> Candidate:
        return candidate.model_copy(update={"index": index, "after": {"clean": clean, "robust": 0.25}})

    assert best([with_accuracy(0, 0.5), with_accuracy(1, 0.75), with_accuracy(2, 0.75)]).index == 1
