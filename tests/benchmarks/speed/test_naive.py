"""The naive form is the same function as the compiled network."""

import pytest
import torch

from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import compile


@pytest.mark.parametrize("name", [name for name in spec_names() if "imagenet" not in name])
def test_the_naive_form_is_the_same_function(name):
    spec = load_spec(name)
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})
    network = compile(spec).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = network(images)
    torch.testing.assert_close(naive(network, spec)(images), expected)
