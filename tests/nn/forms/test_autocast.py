"""The modules that training computes with: the fast forms of a network, or any module under autocast."""

import pytest
import timm
import torch
from torch.nn.utils import parametrizations, parametrize

from robnet_zoo.errors import ModelError
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.forms.autocast import attack_form, safe_layout


def test_channels_come_last_but_where_onednns_gradient_writes_past_its_memory():
    assert safe_layout(timm.create_model("resnet18_cifar")) == torch.channels_last
    assert safe_layout(timm.create_model("resnet18_cifar", width=0.05)) == torch.contiguous_format  # 3 channels


def test_the_attacks_form_follows_the_network_without_being_rebuilt(tiny):
    network, images = compile(tiny).eval(), torch.rand(2, *tiny.network.input_size)
    form = attack_form(network, dtype=torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    assert attack_form(network, dtype=torch.float32) is form
    torch.testing.assert_close(form(images), network(images), rtol=1e-4, atol=1e-4)
    network.classifier = torch.nn.Linear(network.num_features, 3)  # another layer, which a refresh cannot follow
    assert attack_form(network, dtype=torch.float32)(images).shape == (2, 3)
    assert attack_form(network, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert attack_form(compile(tiny), dtype=torch.float32) is not form


def test_a_change_after_the_first_use_of_the_attacks_form_is_refused(tiny):
    def hooked(network):
        return network.cells[0].register_forward_hook(lambda module, inputs, output: 2 * output).remove

    def parametrised(network):
        parametrizations.weight_norm(network.stem[0][0])
        return lambda: parametrize.remove_parametrizations(network.stem[0][0], "weight")

    def with_features_of_its_own(network):
        own = network.forward_features
        network.forward_features = lambda x: 3 * own(x)
        return lambda: vars(network).pop("forward_features")

    def padded_otherwise(network):
        conv = network.stem[0][0]
        conv.padding_mode = "circular"
        return lambda: setattr(conv, "padding_mode", "zeros")

    network = compile(tiny).eval()
    attack_form(network, dtype=torch.float32)
    for change in (hooked, parametrised, with_features_of_its_own, padded_otherwise):
        undo = change(network)
        with pytest.raises(ModelError, match="got one that was changed: "):
            attack_form(network, dtype=torch.float32)
        undo()
        attack_form(network, dtype=torch.float32)
