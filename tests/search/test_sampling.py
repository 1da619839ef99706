"""Sampling: what is asked for, each architecture once, the same ones for the same seed."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest, kstest

from robnet_zoo.errors import DocumentError, SearchError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Budget
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search import sampling
from robnet_zoo.search.sampling import Sampling, sample
from robnet_zoo.search.space import Kind, SearchSpace, bits, direct_share

LARGE = load_spec("robnet_large").network
SMALL = LARGE.model_copy(update={"channels": 4, "depth": 3, "reductions": (1,)})


def space(kind: Kind = "cell_based") -> SearchSpace:
    return SearchSpace(kind=kind, network=SMALL)


def test_same_seed_gives_the_same_architectures_and_fewer_are_the_first_of_more() -> None:
    assert sample(space(), Sampling(), 20, seed="a") == sample(space(), Sampling(), 50, seed="a")[:20]
    assert sample(space(), Sampling(), 20, seed="a") != sample(space(), Sampling(), 20, seed="b")


def test_each_architecture_comes_once_and_then_their_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A cell of one node has 2^4 α. No input reaches one of them; three more read input 0 alone, so that nothing reads
    # the last cell but one.
    monkeypatch.setattr(sampling, "MAX_DRAWS", 2000)
    tiny = SearchSpace(kind="cell_based", nodes=1, network=SMALL)
    assert len(set(sample(tiny, Sampling(), 12, seed="a"))) == 12
    with pytest.raises(SearchError, match=r"expected more than 12 architectures of .*, got none in 2,000 draws"):
        sample(tiny, Sampling(), 13, seed="a")


def test_every_architecture_can_be_compiled() -> None:
    # Building a genotype raises if no input reaches a node or nothing reads a cell.
    for kind in ("cell_based", "cell_free"):
        for codes in sample(space(kind), Sampling(kind="density", densities=(0.1, 0.4)), 50, seed="a"):
            space(kind).genotype(codes, name="drawn")


def test_uniform_sets_every_element_alike() -> None:
    # An edge into a node that other edges feed too is on half the time; without the few α that are refused, all are.
    drawn = [bits(codes) for codes in sample(space(), Sampling(), 2000, seed="a")]
    for bit in range(20, 28):  # the last ones, into node 5 from nodes 1 to 4
        assert binomtest(sum(row[bit] for row in drawn), 2000, 0.5).pvalue > 1e-4, space().columns[bit]


def test_densities_are_uniform_between_the_bounds() -> None:
    wanted = Sampling(kind="density", densities=(0.4, 0.9))
    densities = [space().genotype(codes, name="a").density for codes in sample(space(), wanted, 400, seed="a")]
    assert kstest(densities, "uniform", args=(0.4, 0.5)).statistic < 0.1


@pytest.mark.parametrize(("budget", "least", "most"), [("small", 0, 7), ("medium", 8, 10), ("large", 11, 14)])
@pytest.mark.parametrize("kind", ["cell_based", "cell_free"])
def test_budget_is_kept_in_every_cell(kind: Kind, budget: Budget, least: int, most: int) -> None:
    inside = space(kind)
    for codes in sample(inside, Sampling(budget=budget), 20, seed="a"):
        spec = inside.genotype(codes, name="a")
        assert all(least <= sum(spec.convs(name)) <= most for name in spec.cells)
        assert spec.budget == budget


def test_bounds_of_appendix_f_are_kept() -> None:
    wanted = Sampling(budget="small", density_from=0.5, direct_above=0.5, parameters=(4_189_500, 4_630_500))
    for codes in sample(space(), wanted, 10, seed="a", full=LARGE):
        spec = space().genotype(codes, name="a")
        assert spec.density >= 0.5
        assert direct_share(spec) > 0.5
        assert 4_189_500 <= parameters(space().genotype(codes, name="a", network=LARGE)) <= 4_630_500


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"densities: expected the smaller value first, got \[0.9, 0.1\]"):
        Sampling.parse({"kind": "density", "densities": [0.9, 0.1]})


def test_budget_that_no_density_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_DRAWS", 500)
    with pytest.raises(SearchError, match="expected cells with the budget large, got none in 500 draws"):
        sample(space(), Sampling(kind="density", densities=(0.0, 0.2), budget="large"), 1, seed="a")
