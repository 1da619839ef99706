"""Every operation, at every stride, is written with its logits; so is a network without a head."""

import onnx
import pytest
import torch
import torch.fx
from torch import nn

from robnet_zoo.converters import onnx as converter
from robnet_zoo.converters.onnx import OnnxClassifier, export, load
from robnet_zoo.converters.onnx import graph as graph_module
from robnet_zoo.data import Images
from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.nn.forms.folding import folded
from tests.converters.onnx.exports import away, seen
from tests.small_networks import SPECS, network_of


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


DENOISED = {name: spec for name, spec in SPECS.items() if name.startswith("denoised")}


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_denoised_network_as_a_file_keeps_its_logits_and_rebuilt_its_gradients(spec: Genotype, tmp_path) -> None:
    network, path = network_of(spec).float(), tmp_path / "model.onnx"
    assert converter.export(network, path).difference <= 1e-4
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
    assert expected.std() > 1e-2
    file = converter.OnnxClassifier(path)
    torch.testing.assert_close(file(images), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(converter.load(path)(images), expected, rtol=1e-4, atol=1e-4)
    gradients = []
    for model in (network, converter.load(path), file.module()):
        given = images.clone().requires_grad_()
        model(given)[:, 0].sum().backward()
        gradients.append(given.grad)
    scale = float(gradients[0].abs().max())
    assert scale > 1e-6
    for other in gradients[1:]:
        torch.testing.assert_close(other / scale, gradients[0] / scale, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_denoised_network_as_a_file_is_near_in_every_precision(spec: Genotype, precision: str, tmp_path) -> None:
    network, path = network_of(spec).float(), tmp_path / "model.onnx"
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.zeros(40, dtype=torch.long), name="noise")
    options = converter.ExportOptions(precision=precision, calibration=16)
    report = converter.export(network, path, options, images=images)
    with torch.no_grad():
        largest = float(network(images.batch(slice(None))[0]).abs().max())
    assert report.difference <= (0.005 if precision == "fp16" else 0.05) * largest


def test_a_denoising_block_is_exported_for_images_of_another_size(tmp_path) -> None:
    network, path = network_of(DENOISED["denoised, dot_product"]).float(), tmp_path / "model.onnx"
    assert converter.export(network, path, converter.ExportOptions(input_size=(16, 24))).difference <= 1e-4
