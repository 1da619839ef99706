"""Searching a table: what α mean, how methods propose, and what is compared."""

from itertools import product

import pytest

from robnet_zoo.errors import ArgumentError, DocumentError
from robnet_zoo.search.lookup import METHODS, all_accuracies, best_so_far, meaning, search_table

EVERY = ["".join(digits) for digits in product("01234", repeat=6)]


def test_there_are_as_many_different_cells_as_published():
    assert len({meaning(digits) for digits in EVERY}) == 6466  # Dong and Yang, NAS-Bench-201, ICLR 2020


def test_alpha_that_mean_the_same_are_told_by_what_reaches_the_output():
    # Node 1 reads the input by an identity or not at all, and no edge leaves it.
    assert meaning("100300") == meaning("000300")
    # A convolution before or behind an identity.
    assert meaning("300010") == meaning("100030")
    assert meaning("300030") != meaning("300010")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a table of the whole space, a row a meaning, where 3x3 convolutions are all that counts."""
    rows = {meaning(digits): digits for digits in EVERY}.values()
    path = tmp_path_factory.mktemp("lookup") / "cells.csv"
    lines = [f"{digits},{(digits.count('3') + 1) / 10}" for digits in rows]
    path.write_text("\n".join(["operations,robust", *lines]))
    return path


@pytest.fixture(scope="module")
def accuracies():
    table = {digits: (digits.count("3") + 1) / 10 for digits in {meaning(each): each for each in EVERY}.values()}
    return all_accuracies(table, source="")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_proposes_cells_of_the_space_and_the_same_seed_the_same(method):
    def proposed(seed: int) -> list[str]:
        proposals = METHODS[method](seed)
        cells = [next(proposals)]
        cells += [proposals.send(cells[-1].count("3") / 10) for _ in range(25)]
        proposals.close()
        return cells

    first = proposed(0)
    assert set(first) <= set(EVERY)
    assert proposed(0) == first != proposed(1)


@pytest.mark.parametrize("method", METHODS)
def test_the_best_never_falls_and_known_cells_are_not_evaluated_again(method, accuracies):
    best = best_so_far(METHODS[method](0), accuracies, 30)
    assert len(best) == 30
    assert best == sorted(best)


def test_a_method_that_proposes_one_cell_has_one_evaluation(accuracies):
    def stubborn():
        while True:
            yield "333333"

    assert best_so_far(stubborn(), accuracies, 5) == [accuracies["333333"]] * 5


def test_methods_that_learn_beat_chance_where_there_is_something_to_learn(table):
    result = search_table(table, evaluations=40, seeds=4, methods=("uniform", "tpe", "evolution"))
    last = {progress.method: progress.best[-1].value for progress in result.progress}
    assert last["uniform"] < last["tpe"] <= result.best == 0.7
    assert last["uniform"] < last["evolution"]
    assert result.evaluations == (1, 2, 5, 10, 20, 40)
    assert (result.cells, result.seeds) == (6466, 4)


def test_what_is_wrong_is_named(tmp_path, table):
    (tmp_path / "few.csv").write_text("operations,robust\n312304,0.4\n")
    with pytest.raises(DocumentError, match="expected all cells of NAS-Bench-201, got none that means 000000"):
        search_table(tmp_path / "few.csv")
    (tmp_path / "darts.json").write_text('[{"spec": {}, "robust": 1}]')
    with pytest.raises(DocumentError, match="row 1: spec"):
        search_table(tmp_path / "darts.json")
    with pytest.raises(ArgumentError, match="seeds: expected 2 to 10,000, got 1"):
        search_table(table, seeds=1)
    with pytest.raises(ArgumentError, match="unknown method"):
        search_table(table, methods=["tpee"])


def test_the_published_table_has_every_cell_once(official):
    path = official.parent / "tables" / "nas_robbench_201.csv"
    if not path.is_file():
        pytest.skip("the tables are not here")
    result = search_table(path, robust="cifar10#autoattack", evaluations=3, seeds=2, methods=["uniform"])
    assert (result.cells, result.best) == (6466, 0.4438)
