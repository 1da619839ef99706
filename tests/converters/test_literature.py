"""The published architectures by name; their counts and functions are tests of the converters that read them."""

from robnet_zoo.converters.literature import GENOTYPES, MSROBNETS
from robnet_zoo.genotype.specs import spec_names


def test_no_name_means_two_things() -> None:
    assert not set(GENOTYPES) & set(MSROBNETS)
    assert not set(spec_names()) & {*GENOTYPES, *MSROBNETS}
    titles = [entry.title for entry in (*GENOTYPES.values(), *MSROBNETS.values())]
    assert len(set(titles)) == len(titles)


def test_only_searches_for_robustness_are_marked_as_such() -> None:
    plain = {"darts_v1", "darts_v2", "pdarts", "pc_darts", "pc_darts_imagenet", "eoinas", "idarts", "relativenas"}
    assert {name for name, entry in GENOTYPES.items() if not entry.robust} == plain | {
        "snas", "pnas", "amoebanet", "nasnet",
    }  # fmt: skip
