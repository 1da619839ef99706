"""The published cells, and which are near."""

from __future__ import annotations

import pytest

from robnet_zoo.converters.literature import GENOTYPES, MSROBNETS
from robnet_zoo.editor.published import groups, load_published, nearest_cells, published
from robnet_zoo.errors import EditorError
from robnet_zoo.genotype.genotype import Cell, edges
from robnet_zoo.genotype.specs import SPECS


def test_every_bundled_spec_and_every_genotype_can_be_begun_with():
    assert published().keys() == {*SPECS.names(), *GENOTYPES, *MSROBNETS}
    assert {name for names in groups().values() for name in names} == published().keys()


def test_no_two_published_architectures_share_a_name():
    names = [*SPECS.names(), *GENOTYPES, *MSROBNETS]
    assert len(names) == len({*names})


def test_an_unknown_name_is_refused():
    with pytest.raises(EditorError, match="got 'robnet_fre'"):
        load_published("robnet_fre")


@pytest.mark.parametrize("name", ["robnet_large", "darts_v2", "advrush"])
def test_a_published_cell_is_nearest_to_itself_and_names_all_that_share_it(name):
    spec = load_published(name)
    nearest = nearest_cells(spec.cells[spec.layout[0]], spec.operations)
    assert nearest[0].distance == 0 < nearest[1].distance
    assert name in nearest[0].architectures
    assert [each.distance for each in nearest] == sorted(each.distance for each in nearest)
    if name == "robnet_large":
        assert nearest[0].architectures == ("robnet_large", "robnet_large_imagenet", "robnet_large_v2")


def test_a_switch_away_from_a_cell_is_one_away():
    spec = load_published("racl")
    cell = spec.cells["normal"]
    alpha = [list(row) for row in cell.alpha]
    alpha[0][0] ^= 1
    assert nearest_cells(Cell(alpha=alpha, concat=cell.concat), spec.operations)[0].distance == 1


def test_a_cell_of_many_live_nodes_is_not_compared():
    cell = Cell(alpha=[[1]] * len(edges(9)), concat=range(2, 11))
    assert nearest_cells(cell, ("identity",)) == []
