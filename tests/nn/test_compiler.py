"""A sub-network as a mask over its supernet: the same modules, the same logits as a separate network."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, for_inference, for_training, subnetwork
from robnet_zoo.nn.network import Network
from tests.small_networks import SPECS, genotype, network_of

ALL, SOME = ["identity", "sep_conv_3x3"], ["sep_conv_3x3"]
EDGES = ("0->2", "1->2", "0->3", "1->3", "2->3")
SUPERNET = genotype({"a": dict.fromkeys(EDGES, ALL)}, "aaaa", reductions=[1, 2])
PARTS = {
    "one operation an edge": genotype({"a": dict.fromkeys(EDGES, SOME)}, "aaaa", reductions=[1, 2]),
    "separate cells": genotype(
        {"a": {"0->2": ALL, "2->3": SOME}, "b": {"1->2": ["identity"], "1->3": ALL, "0->3": SOME}},
        "abab",
        reductions=[1, 2],
    ),
    "one input": genotype({"a": {"1->2": SOME, "2->3": ["identity"]}}, "aaaa", reductions=[1, 2]),
    "everything": SUPERNET,
}
IMAGES = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def supernet() -> Network:
    return network_of(SUPERNET)


def inheriting(supernet: Network, spec: Genotype) -> Network:
    """Return a compiled network with the supernet's weights, by key."""
    network = compile(spec).double()
    state = supernet.state_dict()
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    return network.train(supernet.training)


@pytest.mark.parametrize("spec", PARTS.values(), ids=PARTS)
def test_mask_has_the_logits_and_gradients_of_a_compiled_network_that_inherits(supernet, spec) -> None:
    masked, expected = subnetwork(supernet, spec), inheriting(supernet, spec)
    assert masked.state_dict().keys() == expected.state_dict().keys()
    gradients = []
    for network in (masked, expected):
        x = IMAGES.clone().requires_grad_()
        logits = network(x)
        gradients.append((logits, *torch.autograd.grad(logits.square().sum(), x)))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("form", [for_inference, for_training])
@pytest.mark.parametrize("spec", PARTS.values(), ids=PARTS)
def test_forms_of_a_mask_are_those_of_a_compiled_network(supernet, spec, form) -> None:
    masked, expected = (
        form(network, dtype=torch.float64) for network in (subnetwork(supernet, spec), inheriting(supernet, spec))
    )
    torch.testing.assert_close(masked(IMAGES), expected(IMAGES), rtol=1e-9, atol=1e-9)


def test_mask_shares_every_parameter_and_buffer(supernet) -> None:
    whole = dict([*supernet.named_parameters(), *supernet.named_buffers()])
    masked = subnetwork(supernet, PARTS["separate cells"])
    for name, value in [*masked.named_parameters(), *masked.named_buffers()]:
        assert value is whole[name]


def test_mask_of_a_mask_is_a_mask(supernet) -> None:
    smaller = genotype({"a": {"1->2": SOME, "2->3": SOME}}, "aaaa", reductions=[1, 2])
    outer = subnetwork(supernet, PARTS["one operation an edge"])
    assert torch.equal(subnetwork(outer, smaller)(IMAGES), subnetwork(supernet, smaller)(IMAGES))


def test_hook_on_a_mask_is_not_one_on_the_supernet(supernet) -> None:
    mask, seen = subnetwork(supernet, PARTS["one input"]), []
    mask.register_forward_hook(lambda *_: seen.append("mask"))
    mask.cells[0].register_forward_hook(lambda *_: seen.append("cell"))
    supernet(IMAGES)
    assert seen == []
    mask(IMAGES)
    assert seen == ["cell", "mask"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (genotype({"a": {"1->2": ["max_pool_3x3"]}}, "aaaa", reductions=[1, 2]), "expected cell 0 .* 1->2 max_pool"),
        (genotype({"a": {"1->2": SOME}}, "aaaa", reductions=[1, 2]), r"expected cell 0 .* concat \[2\]"),
        (genotype({"a": dict.fromkeys(EDGES, SOME)}, "aaaa", reductions=[1]), "expected a spec of the network's own"),
        (genotype({"a": dict.fromkeys(EDGES, SOME)}, "aaa", reductions=[1, 2]), "expected a spec of the network's own"),
    ],
)
def test_spec_that_is_not_a_part_of_the_network_is_refused(supernet, spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        subnetwork(supernet, spec)


@pytest.mark.parametrize("name", ["denoised, dot_product", "imagenet stem", "cells that read one input"])
def test_network_is_a_part_of_itself(name) -> None:
    network = network_of(SPECS[name])
    size = SPECS[name].network.input_size[1]
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    assert torch.equal(subnetwork(network, SPECS[name])(images), network(images))
