"""The result of a plan survives its file, is read if it is older, and has one outcome an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.errors import DocumentError
from robnet_zoo.reproduce.result import ReproductionResult
from tests.small_plan import made_result


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    result = made_result()
    result.save(tmp_path / "result.json")
    assert ReproductionResult.load(tmp_path / "result.json") == result


def test_outcomes_are_found_by_their_attack_and_are_numbers() -> None:
    (part,) = made_result(resnet=10, n=50).parts
    outcomes = part.models[0].under("pgd10")
    assert outcomes is not None
    assert outcomes.bits == [1] * 10 + [0] * 40
    assert part.models[0].under("pgd20") is None


def test_another_number_of_outcomes_than_images_is_refused() -> None:
    document = made_result(n=50).model_dump(mode="json", exclude_none=True)
    document["parts"][0]["models"][1]["outcomes"][1]["correct"] += "0"
    message = r"parts\[0\]\.models\[1\]\.outcomes: expected 50 outcomes of pgd10, got 51"
    with pytest.raises(DocumentError, match=message):
        ReproductionResult.parse(document)


def test_an_older_result_is_read_with_the_hashes_that_it_has() -> None:
    result = made_result()
    older = result.model_dump(mode="json", exclude_none=True) | {"schema_version": 1}
    for model in older["parts"][0]["models"]:
        model["weights_sha256"] = model.pop("state_sha256")
    assert ReproductionResult.parse(older) == result
