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


def test_the_schema_is_not_a_spec() -> None:
    assert "genotype.schema" not in spec_names()
