"""Bundled documents of every kind: named like their files, with every value written out, loaded by name or path."""

import json

import pytest

from robnet_zoo.benchmarks.protocol import PROTOCOLS
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.specs import SPECS
from robnet_zoo.reproduce.plan import PLANS
from robnet_zoo.reproduce.scale import SCALES
from robnet_zoo.search.config import CONFIGS
from robnet_zoo.training.recipe import RECIPES

KINDS = (SPECS, RECIPES, PROTOCOLS, CONFIGS, PLANS, SCALES)
DOCUMENTS = [pytest.param(kind, name, id=f"{kind.kind} {name}") for kind in KINDS for name in kind.names()]
every_document = pytest.mark.parametrize(("kind", "name"), DOCUMENTS)


@every_document
def test_a_document_bears_the_name_of_its_file_and_says_what_it_is(kind, name):
    assert kind.load(name).name == name
    assert len(kind.summary(name).split()) > 2


@every_document
def test_a_document_leaves_nothing_to_defaults(kind, name):
    """Check that a change of a default cannot change a document. `robnet-zoo recipes FILE` prints one in full."""
    assert json.loads(kind.path(name).read_text(encoding="utf-8")) == json.loads(kind.load(name).dumps())


def test_a_folder_may_hold_other_files():
    assert SPECS.path("genotype.schema").is_file()
    assert "genotype.schema" not in SPECS.names()


@pytest.mark.parametrize(
    ("kind", "wrong", "expected"),
    [
        (
            SPECS,
            "robnet_fre",
            "robnet_fre: neither a bundled spec nor the path of a JSON file, did you mean 'robnet_free'",
        ),
        (RECIPES, "papr", "papr: neither a bundled recipe .*'paper'"),
        (PROTOCOLS, "tabel1", "tabel1: neither a bundled protocol .*'table1'"),
        (PROTOCOLS, "figure", "did you mean 'figure10'"),
        (PROTOCOLS, "squares", "did you mean 'square'"),
        (CONFIGS, "smal", "smal: neither a bundled search config .*'small'"),
        (PLANS, "figure11", "figure11: neither a bundled plan .*'figure1'"),
        (SCALES, "ful", "ful: neither a bundled scale .*'full'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind, wrong, expected):
    with pytest.raises(DocumentError, match=expected):
        kind.load(wrong)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_document_is_loaded_from_a_file_too(kind, tmp_path):
    document = kind.load(kind.names()[0]).model_copy(update={"name": "mine"})
    document.save(tmp_path / "mine.json")
    assert kind.load(tmp_path / "mine.json") == kind.load(str(tmp_path / "mine.json")) == document


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_file_that_is_not_there_is_named(kind, tmp_path):
    with pytest.raises(DocumentError, match=r"none\.json: cannot be read: No such file"):
        kind.load(tmp_path / "none.json")


def test_a_bundled_name_that_is_a_file_too_is_taken_with_a_word_on_how_to_get_the_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    RECIPES.load("paper").model_copy(update={"name": "mine"}).save("paper")
    assert RECIPES.load("paper").name == "paper"
    assert "paper: took the bundled recipe of this name, not what lies here: ./paper is that" in caplog.text
    caplog.clear()
    assert RECIPES.load("./paper").name == "mine"
    assert (RECIPES.own("paper").name, RECIPES.summary("paper")[:8]) == ("paper", "CIFAR-10")
    assert not caplog.text


@pytest.mark.parametrize("wrong", [3, None, ["paper"]])
def test_what_is_neither_a_name_nor_a_path_is_refused(wrong):
    with pytest.raises(DocumentError, match=r"^expected the name of a bundled recipe or the path of a file, got "):
        RECIPES.load(wrong)
