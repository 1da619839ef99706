"""Specs by name, by path, as a mapping and as they are."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.specs import SPECS, load_spec, spec_names


def test_a_spec_is_loaded_from_whatever_names_or_holds_it() -> None:
    spec = load_spec("robnet_micro")
    assert load_spec(spec) is spec
    assert load_spec(SPECS.path("robnet_micro")) == spec
    assert load_spec(spec.model_dump(mode="json")) == spec


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(DocumentError, match=r"robnet_mico: neither .*, did you mean 'robnet_micro'\?"):
        load_spec("robnet_mico")


@pytest.mark.parametrize("spec", [3, None, ["robnet_micro"], b"robnet_micro"])
def test_what_is_neither_a_spec_nor_a_name_is_refused(spec: object) -> None:
    with pytest.raises(DocumentError, match="expected a spec, or its name or path, got "):
        load_spec(spec)  # type: ignore[arg-type]


def test_the_schema_is_not_a_spec() -> None:
    assert "genotype.schema" not in spec_names()


def test_a_bundled_name_that_is_a_runs_folder_too_is_taken_with_a_word_on_the_other(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robnet_micro").mkdir()
    load_spec("robnet_small").save(tmp_path / "robnet_micro" / "spec.json")
    assert load_spec("robnet_micro").name == "robnet_micro"
    assert "took the bundled spec of this name, not what lies here: ./robnet_micro is that" in caplog.text
    assert load_spec("./robnet_micro").name == "robnet_small"
