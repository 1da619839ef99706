"""Every operation, at every stride, is written with its logits; so is a network without a head."""

import pytest
import torch
from torch import nn

from robnet_zoo.converters.onnx import OnnxClassifier, export, load
from robnet_zoo.converters.onnx import graph as graph_module
from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.nn.forms.folding import folded
from tests.converters.onnx.exports import away, seen


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_exported_at_both_strides(operation, tiny, tmp_path):
    spec = tiny.model_copy(
        update={"operations": ("sep_conv_3x3" if operation == "identity" else "identity", operation)}
    )
    affine = spec.network.model_copy(update={"affine": True, "reductions": (1,)})
    network = seen(spec.model_copy(update={"network": affine}))
    assert export(network, tmp_path / "model.onnx").difference < 1e-5


def test_a_network_without_head_gives_its_pooled_features(tiny, tmp_path):
    network = seen(tiny, num_classes=0)
    assert export(network, tmp_path / "model.onnx").difference < 1e-5
    images = torch.rand(2, 3, 32, 32)
    assert OnnxClassifier(tmp_path / "model.onnx")(images).shape == (2, network.num_features)
    assert away(network, load(tmp_path / "model.onnx"), images) < 1e-5


def test_a_layer_that_onnx_cannot_express_is_named(monkeypatch, tiny):
    monkeypatch.setattr(graph_module, "fold", lambda block, module: [nn.Softmax()] * len(list(folded(block))))
    with pytest.raises(ModelError, match="expected a layer that ONNX can express, got Softmax") as raised:
        graph_module.Graph(seen(tiny))
    assert isinstance(raised.value, TypeError)
