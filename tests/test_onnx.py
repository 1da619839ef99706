"""The exported file: equal to torch, named and free as promised, and never written when it is not equal."""

import json

import onnx
import pytest
import torch

from robnet_zoo.compiler import compile
from robnet_zoo.converters import onnx as exporter
from robnet_zoo.converters.onnx import ExportError
from robnet_zoo.genotype import Genotype
from robnet_zoo.vocabulary import OPERATIONS
from robnet_zoo.zoo import load_spec, spec_names


def narrow(spec: Genotype) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})


def seen(spec: Genotype, **options):
    """A network whose batch norms have seen images, in eval mode."""
    network = compile(spec, **options)
    with torch.no_grad():
        network.train()(torch.rand(4, network.in_chans, *spec.network.input_size[1:]))
    return network.eval()


@pytest.mark.parametrize("name", spec_names())
def test_every_bundled_spec_gives_torchs_logits_at_any_batch(name, tmp_path):
    spec = narrow(load_spec(name))
    network = seen(spec)
    exporter.export(network, tmp_path / "model.onnx")
    for batch in (1, 3):
        images = torch.rand(batch, *spec.network.input_size)
        with torch.no_grad():
            torch.testing.assert_close(
                exporter.run(tmp_path / "model.onnx", images), network(images), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_exported_at_both_strides(operation, tiny, tmp_path):
    spec = tiny.model_copy(
        update={"operations": ("sep_conv_3x3" if operation == "identity" else "identity", operation)}
    )
    affine = spec.network.model_copy(update={"affine": True, "reductions": (1,)})
    network = seen(spec.model_copy(update={"network": affine}))
    assert exporter.export(network, tmp_path / "model.onnx") < 1e-5


def test_inputs_outputs_and_metadata_are_as_promised(tiny, tmp_path):
    exporter.export(seen(tiny, num_classes=3, in_chans=1), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in proto.graph.input] == ["images"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    sizes = [d.dim_value or d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 32, 32]
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["input_range"] == "[0, 1]"
    assert Genotype.parse(json.loads(metadata["spec"])).hash == metadata["spec_hash"] == tiny.hash


def test_a_network_without_head_gives_its_pooled_features(tiny, tmp_path):
    network = seen(tiny, num_classes=0)
    assert exporter.export(network, tmp_path / "model.onnx") < 1e-5
    assert exporter.run(tmp_path / "model.onnx", torch.rand(2, 3, 32, 32)).shape == (2, network.num_features)


def test_logits_that_differ_are_an_error_and_nothing_is_written(tiny, tmp_path):
    network = seen(tiny, global_pool="max")  # the graph averages
    with pytest.raises(ExportError, match=r"expected logits within 0\.0001 of torch's"):
        exporter.export(network, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_without_spec_is_refused(tmp_path):
    with pytest.raises(ExportError, match="expected a model compiled from a spec, got Linear"):
        exporter.export(torch.nn.Linear(2, 2), tmp_path / "model.onnx")


def test_training_mode_is_left_as_it_was(tiny, tmp_path):
    network = seen(tiny).train()
    exporter.export(network, tmp_path / "model.onnx")
    assert network.training
