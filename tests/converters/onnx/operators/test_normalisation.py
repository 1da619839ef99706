"""Normalisations compute what the standard and ONNX Runtime say, with the gradients of differences."""

import pytest

from robnet_zoo.converters.onnx.operators import normalisation
from tests.converters.onnx import standard


@pytest.mark.parametrize("kind", standard.kinds(normalisation.OPERATORS))
def test_operator_computes_what_the_standard_says(kind):
    assert standard.compare_with_the_standard(kind)
    standard.compare_with_runtime_at_older_opsets(kind)
    standard.compare_gradients(kind)
