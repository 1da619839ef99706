"""Networks come back from their files as the same function, and what is not such a file is refused."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from robnet_zoo import data
from robnet_zoo.converters.onnx import ExportOptions, OnnxClassifier, export, load, verify
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.genotype.layers import Norm, Pool
from robnet_zoo.genotype.operations import OPERATIONS, Operation
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.zoo.registry import load_model
from tests.converters.onnx.exports import away, narrow, seen, short
from tests.small_networks import SPECS, network_of


# Small enough to be fast: an untrained network of full width computes the same operations.
@pytest.mark.parametrize("name", spec_names())
def test_every_bundled_spec_goes_out_and_comes_back_as_the_same_function(name, tmp_path):
    spec = narrow(load_spec(name))
    if name != "robnet_free":  # one at its full depth is enough
        spec = short(spec)
    network = seen(spec)
    report = export(network, tmp_path / "model.onnx")
    again = load(tmp_path / "model.onnx")
    assert (again.spec.hash, report.spec_hash) == (spec.hash, spec.hash)
    images = torch.rand(3, *spec.network.input_size, generator=torch.Generator().manual_seed(0)).double()
    assert away(network.double(), again.double(), images) < 1e-6
    assert {comparison.batch for comparison in report.comparisons} == set(verify.BATCHES)


@pytest.mark.parametrize("name", ["robnet_micro.cifar10", "robnet_micro.digits"])
def test_trained_model_and_the_one_loaded_from_its_file_give_the_files_logits_to_a_millionth(name, tmp_path):
    network = load_model(name)
    export(network, tmp_path / "m.onnx")
    file, again = OnnxClassifier(tmp_path / "m.onnx"), load(tmp_path / "m.onnx")
    images = data.digits()[1].batch(slice(0, 100))[0]
    assert away(file, again, images) < 1e-6
    assert away(file, network, images) < 1e-6
    assert sum(value.numel() for value in again.parameters()) == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_kind_of_block_comes_back_with_the_rounding_of_its_precision(spec, precision, tmp_path):
    network = network_of(spec)
    export(network, tmp_path / "m.onnx", ExportOptions(precision=precision))
    again = load(tmp_path / "m.onnx").double()
    images = torch.rand(5, *spec.network.input_size, generator=torch.Generator().manual_seed(0)).double()
    assert away(network, again, images) < {"fp32": 1e-5, "fp16": 0.05}[precision]


def test_norm_without_a_convolution_before_it_is_written_and_read(monkeypatch, tiny, tmp_path):
    def layers(channels, stride, affine):
        return (Pool("avg", 3, stride), Norm(channels, affine))

    changed = dict(OPERATIONS) | {"identity": Operation(layers, is_conv=False)}
    monkeypatch.setattr("robnet_zoo.genotype.operations.OPERATIONS", changed)
    monkeypatch.setattr("robnet_zoo.genotype.blueprint.OPERATIONS", changed)
    for affine in (False, True):
        spec = tiny.model_copy(update={"network": tiny.network.model_copy(update={"affine": affine})})
        network = seen(spec)
        export(network, tmp_path / "m.onnx")
        assert any(tensor.name.endswith(".scale") for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer)
        again = load(tmp_path / "m.onnx").double()
        assert away(network.double(), again, torch.rand(3, 3, 32, 32).double()) < 1e-6


def changed(path, change):
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)


def without_spec(proto):
    del proto.metadata_props[:]


def broken_spec(proto):
    next(entry for entry in proto.metadata_props if entry.key == "spec").value = '{"name": 1}'


def wider_spec(proto):
    entry = next(entry for entry in proto.metadata_props if entry.key == "spec")
    spec = json.loads(entry.value)
    spec["network"]["channels"] = 100_000
    entry.value = json.dumps(spec)


def one_node_less(proto):
    del proto.graph.node[-1]


def another_weight(proto):
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros(3, np.float32), "stem.0.0.weight"))


def by_numbers(proto):
    for index, tensor in enumerate(proto.graph.initializer):
        tensor.name = f"constant_{index}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_spec, "expected a file that robnet_zoo has exported, got one without a spec"),
        (broken_spec, "expected a spec in its metadata, got: "),
        (wider_spec, "expected the weights of its spec, got [0-9,]+ in the file and [0-9,]{12,} in the spec"),
        (one_node_less, "expected the graph of its spec, got another"),
        (another_weight, "expected weights by their names"),
        (by_numbers, "expected weights by their names, as this version writes them, got a file by version"),
    ],
)
def test_file_that_is_not_ours_any_more_is_not_loaded(change, message, tiny, tmp_path):
    export(seen(tiny), tmp_path / "m.onnx")
    changed(tmp_path / "m.onnx", change)
    with pytest.raises(OnnxFileError, match=message):
        load(tmp_path / "m.onnx")
