"""The comparison of the sandwich rule with single paths."""

import pytest

from robnet_zoo.errors import SearchError
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import Accuracy
from tests.search.studies import standalone, study
from tools import sandwich


@pytest.mark.parametrize("rule", ["sandwich", "distilled"])
def test_searches_differ_only_in_the_rule_and_train_equally_many_architectures(rule):
    path, other = (sandwich.config(each, epochs=3, candidates=4, seed=2) for each in ("path", rule))
    (single,), (several,) = path.branches, other.branches
    assert several.sandwich is not None
    assert single.supernet.epochs == several.supernet.epochs * (several.sandwich.random + 2)
    assert several.sandwich.distillation == (rule == "distilled")
    supernet = single.supernet.model_copy(update={"name": rule, "epochs": 3})
    branch = single.model_copy(update={"supernet": supernet, "sandwich": several.sandwich})
    assert several == branch
    assert path.model_copy(update={"name": other.name, "branches": other.branches}) == other


def test_a_search_that_begins_with_the_whole_trains_as_many_architectures():
    single, late = (
        sandwich.config(each, epochs=20, candidates=4, seed=2).branches[0] for each in ("path", "whole_first")
    )
    assert late.sandwich is not None
    assert single.supernet.epochs == 80
    assert late.supernet.epochs == 32  # 16 of one architecture an update, 16 of four
    assert late.sandwich.whole_first == 0.5


def test_digits_are_enough_for_the_searches(tmp_path):
    config = sandwich.config("distilled", epochs=3, candidates=4, seed=2)
    part = Search(config, "digits", tmp_path).part("cell_based")  # which checks that
    assert len(part.split[1]) >= 2 * config.evaluation.validation  # half for those that are trained alone


def measured(*seeds: int) -> sandwich.SandwichResult:
    def effect(spec, draw):
        robust = 0.2 + draw.random() / 10
        return Accuracy(clean=0.5, robust=robust), Accuracy(clean=0.6, robust=robust + 0.1), ()

    result = study(effect, n=6).model_copy(update={"supernet_accuracy": Accuracy(clean=0.75, robust=0.25)})
    alone = standalone(study(effect, n=5), lambda candidate: 0.9 - candidate.before.robust)
    row = sandwich.judged("path", result, alone)
    return sandwich.SandwichResult(
        data="made_up.npz",
        data_sha256="00" * 32,
        training=100,
        validation=50,
        eps="8/255",
        epochs=30,
        alone_epochs=3,
        candidates=5,
        software={},
        device="none",
        rows=tuple(row.model_copy(update={"seed": seed, "finetuned": 0.1 + 0.1 * seed}) for seed in seeds),
    )


def test_a_row_has_the_supernet_and_how_what_candidates_inherit_ranks_them():
    lines = sandwich.table(measured(0)).splitlines()
    assert lines[0].startswith("5 candidates for seed 0, ")
    row = lines[4].split(" | ")
    assert row[:4] == ["| path", "30", "75.0%", "25.0%"]
    assert [cell[:5] for cell in row[6:]] == ["-1.00", "-1.00", "+1.00"]
    assert row[5] == "10.0%"
    both = sandwich.table(measured(0, 1)).splitlines()
    assert both[0].startswith("5 candidates for seeds 0, 1, ")
    assert both[4].split(" | ")[5:7] == ["15.0%", "-1.00, -1.00"]


def test_a_document_keeps_the_rows_of_other_seeds_and_takes_none_of_other_images(tmp_path):
    document = tmp_path / "rules.json"
    measured(1, 2).save(document)
    both = sandwich._beside_others(document, measured(0, 2))
    assert [row.seed for row in both.rows] == [0, 1, 2]
    with pytest.raises(SearchError, match=r"rules.json: expected no document or one whose epochs is 9, got 30"):
        sandwich._beside_others(document, measured(0).model_copy(update={"epochs": 9}))


def test_a_document_of_another_measurement_is_refused_before_anything_is_trained(tmp_path):
    measured(1).save(tmp_path / "rules.json")
    with pytest.raises(SearchError, match=r"rules.json: expected no document or one whose validation is 64, got 50"):
        sandwich.measure(output=tmp_path / "work", document=tmp_path / "rules.json")
    assert not (tmp_path / "work").exists()
