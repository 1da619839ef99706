"""The search space: α to specs and back, and what the published cells look like in it."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search.space import Kind, SearchSpace, bits, direct_share


def space(kind: Kind, name: str = "robnet_large") -> SearchSpace:
    return SearchSpace(kind=kind, network=load_spec(name).network)


@pytest.mark.parametrize(("kind", "name"), [("cell_based", "robnet_large"), ("cell_free", "robnet_free")])
def test_published_architecture_has_codes_that_give_it_back(kind: Kind, name: str) -> None:
    spec, inside = load_spec(name), space(kind, name)
    codes = inside.codes(spec)
    assert len(codes) == inside.cells
    assert inside.genotype(codes, name="again").hash == spec.hash


def test_codes_are_those_of_the_original() -> None:
    # RobNet-large, as published: two digits an edge, [identity, sep conv]; paper, section 3.3: 14 edges.
    (code,) = space("cell_based").codes(load_spec("robnet_large"))
    assert code == "11 11 11 11 11 01 11 01 10 11 01 01 01 11"


def test_bits_have_a_name_each() -> None:
    inside = space("cell_based")
    assert len(bits(inside.codes(load_spec("robnet_large")))) == len(inside.columns) == inside.bits == 28
    assert inside.columns[:3] == ("0->2 identity", "0->2 sep_conv_3x3", "1->2 identity")
    assert inside.columns[-1] == "4->5 sep_conv_3x3"


def test_supernet_is_dense() -> None:
    assert space("cell_free").supernet().density == 1.0
    assert len(space("cell_free").supernet().layout) == 20


def test_direct_share_of_the_published_large_network_is_three_of_four() -> None:
    assert direct_share(load_spec("robnet_large")) == 0.75


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["00 " * 13 + "11"], "no input reaches node 2"),
        (["11 11"] * 2, "expected the codes of 1 cell, got 2"),
        (["11"], "expected 2, 5, 9, 14, ... edges"),
        (["12 " * 13 + "11"], "expected 0 or 1"),
    ],
)
def test_wrong_codes_are_refused_with_the_place(codes: list[str], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        space("cell_based").genotype(codes, name="wrong")
