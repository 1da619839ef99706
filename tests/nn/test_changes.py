"""A network that was changed since its spec was built is not taken for what the spec says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from robnet_zoo.converters.onnx import export, to_onnx
from robnet_zoo.errors import ExportError, ModelError
from robnet_zoo.nn.changes import change_in
from robnet_zoo.nn.compiler import compile, for_inference, for_training, subnetwork
from robnet_zoo.nn.network import Network
from robnet_zoo.training.distributed import World
from robnet_zoo.training.recipe import load_recipe
from robnet_zoo.training.state import state_of
from tests.small_networks import SPECS, network_of

SPEC = SPECS["denoised, median"]


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Sharper(Network):
    def forward(self, x):
        return 2 * super().forward(x)


class Leaky(nn.ReLU):
    """A ReLU by its base class alone."""

    def forward(self, x):
        return nn.functional.leaky_relu(x, 0.1)


def subclassed(network):
    network.__class__ = Sharper


def patched(network):
    forward = network.cells[0].forward
    network.cells[0].forward = lambda before, last: 2 * forward(before, last)


def rewired(network):
    network.cells[0].concat = network.cells[0].concat[::-1]


def replaced(name, module):
    return lambda network: network.set_submodule(name, module)


CHANGES = {
    "a hook on the network": (lambda n: n.register_forward_hook(lambda *given: -given[-1]), "the network has a hook"),
    "a hook on a layer": (
        lambda n: n.stem[0][0].register_forward_pre_hook(lambda _, given: given[0].round()),
        "stem.0.0 has a hook",
    ),
    "a hook on gradients": (
        lambda n: n.cells[1].register_full_backward_hook(lambda *_: None),
        "cells.1 has a hook",
    ),
    "a pruned layer": (
        lambda n: prune.random_unstructured(n.cells[0].edges["0->2"]["sep_conv_3x3"][1], "weight", amount=0.5),
        "cells.0.edges.0->2.sep_conv_3x3.1 has a hook",
    ),
    "a forward of a subclass": (subclassed, "Sharper has a method forward of its own"),
    "a forward of an instance": (patched, "cells.0 has a method forward of its own"),
    "a parametrisation": (
        lambda n: parametrize.register_parametrization(n.stem[0][0], "weight", Doubled()),
        "stem.0.0 is not as the spec builds it, but ParametrizedConv2d",
    ),
    "another rectifier": (replaced("cells.0.preprocess.0.0", nn.LeakyReLU()), "cells.0.preprocess.0.0 is not as"),
    "another rectifier by another name": (replaced("cells.0.preprocess.0.0", Leaky()), "but Leaky()"),
    "another convolution": (
        replaced("stem.0.0", nn.Conv2d(3, 12, 3, padding=1, bias=False, padding_mode="circular")),
        "stem.0.0 is not as the spec builds it, but Conv2d(3, 12,",
    ),
    "another norm": (replaced("stem.0.1", nn.GroupNorm(1, 12)), "stem.0.1 is not as the spec builds it, but GroupNorm"),
    "a norm of each batch": (
        replaced("stem.0.1", nn.BatchNorm2d(12, track_running_stats=False)),
        "stem.0.1 is not as the spec builds it, but BatchNorm2d",
    ),
    "a filter": (replaced("cells.0.denoise.0", nn.Identity()), "cells.0.denoise.0 is not as the spec builds it"),
    "one more layer": (lambda n: n.stem[0].append(nn.Identity()), "stem.0.2 is not as the spec builds it"),
    "one layer less": (lambda n: n.stem[0].pop(1), "stem.0.1 is missing"),
    "another graph": (rewired, "cells.0 is wired otherwise than the spec says"),
}
HEADS = {
    "a hook": lambda n: n.classifier.register_forward_hook(lambda *given: -given[-1]) and None,
    "another classifier": replaced("classifier", nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))),
    "a pooling of torch's": replaced("global_pool", nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
    "another pooling": replaced("global_pool.pool", nn.AdaptiveMaxPool2d(1)),
}


@pytest.fixture(scope="module")
def whole():
    return network_of(SPEC).float()


@pytest.fixture
def network(whole):
    return copy.deepcopy(whole)


@pytest.mark.parametrize("name", SPECS)
def test_a_network_as_it_was_built_has_no_change(name):
    network = network_of(SPECS[name])
    assert change_in(network, head=True) == ""
    assert change_in(nn.SyncBatchNorm.convert_sync_batchnorm(network).bfloat16().train(), head=True) == ""


@pytest.mark.parametrize("options", [{"num_classes": 3}, {"num_classes": 0}, {"in_chans": 1}, {"global_pool": "max"}])
def test_other_heads_and_inputs_that_were_asked_for_are_no_change(options):
    network = compile(SPEC, **options)
    assert change_in(network, head=True) == ""
    network.reset_classifier(7)
    assert change_in(network, head=True) == ""
    assert change_in(subnetwork(network, SPEC), head=True) == ""


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_network_has_no_fast_form_and_no_file(name, network, tmp_path):
    change, text = CHANGES[name]
    change(network)
    assert text in change_in(network)
    for made in (for_inference, for_training, to_onnx, lambda n: state_of(n, load_recipe("fast"), World())):
        with pytest.raises(ModelError, match="expected a network as its spec builds it, got one that was changed: "):
            made(network)
    with pytest.raises(ExportError, match=r"model\.onnx: expected a network as its spec builds it"):
        export(network, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", HEADS)
def test_a_changed_head_is_part_of_the_fast_forms_but_has_no_file(name, network, tmp_path):
    HEADS[name](network)
    images = torch.rand(2, 3, 8, 8)
    expected = network(images)
    torch.testing.assert_close(for_inference(network)(images), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(for_training(network)(images), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ExportError, match="expected a network as its spec builds it, got one that was changed: "):
        export(network, tmp_path / "model.onnx")
