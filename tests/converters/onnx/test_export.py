"""The exported file: equal to torch, as the options ask, back in torch again, and never written where it is not."""

import json
import subprocess
import sys
import venv

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from robnet_zoo import data
from robnet_zoo.converters.onnx import export as exporter
from robnet_zoo.converters.onnx import graph as onnx_graph
from robnet_zoo.converters.onnx import verify as onnx_proof
from robnet_zoo.converters.onnx.export import ExportOptions, OnnxClassifier
from robnet_zoo.errors import DocumentError, ExportError, OnnxFileError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import Norm, Pool
from robnet_zoo.genotype.operations import OPERATIONS, Operation
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo.registry import load_model, load_spec, spec_names
from robnet_zoo.zoo.weights import state_sha256
from tests.small_networks import SPECS, network_of

PRECISIONS = ("fp32", "fp16", "int8")


def narrow(spec: Genotype) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})


def short(spec: Genotype) -> Genotype:
    """Of a deep network two cells of a size: the quantiser's time grows with the square of the nodes."""
    if spec.network.depth < 10:
        return spec
    first, second = spec.network.reductions
    kept = [0, first, first + 1, second, second + 1]
    network = spec.network.model_copy(update={"depth": len(kept), "reductions": (1, 3)})
    return spec.model_copy(update={"layout": tuple(spec.layout[depth] for depth in kept), "network": network})


def seen(spec: Genotype, **options):
    """A network whose batch norms have seen images, in eval mode."""
    network = compile(spec, **options)
    with torch.no_grad():
        network.train()(torch.rand(4, network.in_chans, *spec.network.input_size[1:]))
    return network.eval()


def pictures(spec: Genotype, n: int = 24) -> data.Images:
    """Images of a spec's size; the digits where they fit, noise where they do not."""
    if spec.network.input_size == (3, 32, 32):
        return data.digits()[0][:n]
    pixels = torch.randint(0, 256, (n, *spec.network.input_size), dtype=torch.uint8)
    return data.Images(pixels, torch.zeros(n, dtype=torch.int64), "noise")


def metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@torch.no_grad()
def away(first, second, images):
    """The largest difference of logits, in the size of the largest logit or 1."""
    expected = first(images)
    return float((second(images) - expected).abs().max() / max(1.0, float(expected.abs().max())))


# Small enough to be fast: an untrained network of full width computes the same operations.
@pytest.mark.parametrize("name", spec_names())
def test_every_bundled_spec_goes_out_and_comes_back_as_the_same_function(name, tmp_path):
    spec = narrow(load_spec(name))
    network = seen(spec)
    report = exporter.export(network, tmp_path / "model.onnx")
    again = exporter.load(tmp_path / "model.onnx")
    assert (again.spec.hash, report.spec_hash) == (spec.hash, spec.hash)
    images = torch.rand(3, *spec.network.input_size, generator=torch.Generator().manual_seed(0)).double()
    assert away(network.double(), again.double(), images) < 1e-6
    assert {comparison.batch for comparison in report.comparisons} == {1, 7, 64}


@pytest.mark.parametrize("name", spec_names())
def test_every_bundled_spec_is_written_in_every_precision(name, tmp_path):
    spec = short(narrow(load_spec(name)))
    network, images = seen(spec), pictures(spec)
    for precision in ("fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        report = exporter.export(network, path, ExportOptions(precision=precision, calibration=16), images=images)
        assert OnnxClassifier(path)(torch.rand(2, *spec.network.input_size)).isfinite().all()
        assert metadata(path)["precision"] == report.precision == precision
        assert exporter.load(path).spec.hash == spec.hash


@pytest.mark.parametrize("name", ["robnet_micro.cifar10", "robnet_micro.digits"])
def test_trained_model_and_the_one_loaded_from_its_file_give_the_files_logits_to_a_millionth(name, tmp_path):
    network = load_model(name)
    exporter.export(network, tmp_path / "m.onnx")
    file, again = OnnxClassifier(tmp_path / "m.onnx"), exporter.load(tmp_path / "m.onnx")
    images = data.digits()[1].batch(slice(0, 100))[0]
    assert away(file, again, images) < 1e-6
    assert away(file, network, images) < 1e-6
    assert sum(value.numel() for value in again.parameters()) == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_kind_of_block_comes_back_with_the_rounding_of_its_precision(spec, precision, tmp_path):
    network = network_of(spec)
    exporter.export(network, tmp_path / "m.onnx", ExportOptions(precision=precision))
    again = exporter.load(tmp_path / "m.onnx").double()
    images = torch.rand(5, *spec.network.input_size, generator=torch.Generator().manual_seed(0)).double()
    assert away(network, again, images) < {"fp32": 1e-5, "fp16": 0.05}[precision]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_exported_at_both_strides(operation, tiny, tmp_path):
    spec = tiny.model_copy(
        update={"operations": ("sep_conv_3x3" if operation == "identity" else "identity", operation)}
    )
    affine = spec.network.model_copy(update={"affine": True, "reductions": (1,)})
    network = seen(spec.model_copy(update={"network": affine}))
    assert exporter.export(network, tmp_path / "model.onnx").difference < 1e-5


def test_norm_without_a_convolution_before_it_is_written_and_read(monkeypatch, tiny, tmp_path):
    def layers(channels, stride, affine):
        return (Pool("avg", 3, stride), Norm(channels, affine))

    changed = dict(OPERATIONS) | {"identity": Operation(layers, is_conv=False)}
    monkeypatch.setattr("robnet_zoo.genotype.operations.OPERATIONS", changed)
    monkeypatch.setattr("robnet_zoo.genotype.blueprint.OPERATIONS", changed)
    for affine in (False, True):
        spec = tiny.model_copy(update={"network": tiny.network.model_copy(update={"affine": affine})})
        network = seen(spec)
        exporter.export(network, tmp_path / "m.onnx")
        assert any(tensor.name.endswith(".scale") for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer)
        again = exporter.load(tmp_path / "m.onnx").double()
        assert away(network.double(), again, torch.rand(3, 3, 32, 32).double()) < 1e-6


def test_inputs_outputs_and_metadata_are_as_promised(tiny, tmp_path):
    network = seen(tiny, num_classes=3, in_chans=1)
    report = exporter.export(network, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in proto.graph.input] == ["images"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    sizes = [d.dim_value or d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 32, 32]
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3
    found = metadata(tmp_path / "model.onnx")
    assert (found["input_range"], found["precision"]) == ("[0, 1]", "fp32")
    assert found["version"] == proto.producer_version
    assert Genotype.parse(json.loads(found["spec"])).hash == found["spec_hash"] == tiny.hash
    assert found["state_sha256"] == report.state_sha256 == state_sha256(network.state_dict())
    again = exporter.load(tmp_path / "model.onnx")
    assert (again.in_chans, again.num_classes) == (1, 3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("opset", [18, 22, onnx.defs.onnx_opset_version() - 3])
def test_the_opset_is_the_one_asked_for(precision, opset, tiny, tmp_path):
    options = ExportOptions(precision=precision, opset=opset, calibration=16)
    exporter.export(seen(tiny), tmp_path / "m.onnx", options, images=pictures(tiny))
    imports = {entry.domain: entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import}
    assert imports == {"": opset}


def test_an_opset_that_is_too_old_or_unknown_is_refused():
    for opset in (17, onnx.defs.onnx_opset_version() + 1):
        with pytest.raises(DocumentError, match="opset: expected"):
            ExportOptions.parse({"opset": opset})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_and_size_are_fixed_where_they_are_asked_for(precision, tiny, tmp_path):
    network = seen(tiny)
    pixels = torch.randint(0, 256, (16, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = data.Images(pixels, torch.zeros(16, dtype=torch.int64), "noise")
    options = ExportOptions(precision=precision, batch=3, input_size=(64, 32), calibration=9)
    report = exporter.export(network, tmp_path / "m.onnx", options, images=images)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [3, 3, 64, 32]
    assert {comparison.batch for comparison in report.comparisons} == {3}
    x = images.batch(slice(0, 7))[0]
    assert away(network, OnnxClassifier(tmp_path / "m.onnx"), x) < {"fp32": 1e-5, "fp16": 0.01, "int8": 0.3}[precision]


def test_size_that_the_reductions_cannot_halve_is_refused(tiny, tmp_path):
    with pytest.raises(ExportError, match="expected a height and width that 4 divides, got 30 and 32"):
        exporter.export(seen(tiny), tmp_path / "m.onnx", ExportOptions(input_size=(30, 32)))


def test_int8_asks_for_real_images_and_compares_on_others_than_it_calibrates_on(tiny, tmp_path):
    options = ExportOptions(precision="int8", calibration=16)
    with pytest.raises(ExportError, match="expected real images, on which int8 finds"):
        exporter.export(seen(tiny), tmp_path / "m.onnx", options)
    images = pictures(tiny, 26)
    report = exporter.export(seen(tiny), tmp_path / "m.onnx", options, images=images)
    assert report.calibration == images[:16].sha256
    assert [comparison.n for comparison in report.comparisons if comparison.images == "real"] == [1, 7, 10]


def test_int8_has_a_scale_a_channel_and_keeps_what_the_head_says(tmp_path):
    network, images = load_model("robnet_micro.digits"), data.digits()[0]
    report = exporter.export(network, tmp_path / "m.onnx", ExportOptions(precision="int8"), images=images)
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    name = "stem.0.0.weight"
    quantised = constants[f"{name}_quantized"]
    assert quantised.dtype == np.int8
    assert 255 * 2 * np.abs(quantised.astype(int)).max() < 2**15  # as processors without VNNI add them
    assert constants[f"{name}_scale"].shape == (len(quantised),)
    assert constants["classifier.weight"].dtype == np.float32
    assert report.agreement > 0.98
    assert report.bytes == (tmp_path / "m.onnx").stat().st_size
    assert {latency.batch for latency in report.latencies} == {1, 8}


def test_a_network_without_head_gives_its_pooled_features(tiny, tmp_path):
    network = seen(tiny, num_classes=0)
    assert exporter.export(network, tmp_path / "model.onnx").difference < 1e-5
    images = torch.rand(2, 3, 32, 32)
    assert OnnxClassifier(tmp_path / "model.onnx")(images).shape == (2, network.num_features)
    assert away(network, exporter.load(tmp_path / "model.onnx"), images) < 1e-5


def test_logits_that_differ_are_an_error_and_nothing_is_written(monkeypatch, tiny, tmp_path):
    put = onnx_graph.Placement.put
    monkeypatch.setattr(onnx_graph.Placement, "put", lambda place, tensor: put(place, tensor) * 1.01)
    with pytest.raises(ExportError, match=r"expected logits within \S+ of torch's, got \S+ away"):
        exporter.export(seen(tiny), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    exporter.export(seen(tiny), tmp_path / "model.onnx", ExportOptions(prove=False))
    assert (tmp_path / "model.onnx").exists()


def test_network_that_float32_itself_cannot_hold_is_allowed_its_own_rounding_and_the_report_says_so(tiny, tmp_path):
    network = seen(tiny)
    with torch.no_grad():  # logits around 1, as the difference of numbers around 100,000
        network.classifier.weight.mul_(3e4)
        network.classifier.bias.copy_(-network(torch.full((1, 3, 32, 32), 0.5))[0] + network.classifier.bias)
    exporter.export(network, tmp_path / "m.onnx", ExportOptions(prove=False))
    flat = torch.full((2, 3, 32, 32), 0.5)
    comparisons, rounding = onnx_proof.prove(network, (tmp_path / "m.onnx").read_bytes(), flat, batch=None)
    difference = max(comparison.difference for comparison in comparisons)
    assert rounding is not None
    assert difference > onnx_proof.PARITY


def test_a_graph_that_onnx_runtime_refuses_is_one_line_and_no_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "_check", lambda proto, path: proto.graph.node[0].CopyFrom(proto.graph.node[-1]))
    with pytest.raises(ExportError, match=r"m\.onnx: expected a graph that ONNX Runtime can run, got: ") as raised:
        exporter.export(compile(tiny), tmp_path / "m.onnx")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "m.onnx").exists()


def test_weights_beyond_the_range_of_fp16_are_refused(tiny, tmp_path):
    network = seen(tiny)
    with torch.no_grad():
        network.stem[0][1].weight.mul_(1e6)
    with pytest.raises(ExportError, match=r"expected weights that its precision can hold, got others in stem\.0\.0"):
        exporter.export(network, tmp_path / "m.onnx", ExportOptions(precision="fp16"))
    assert not list(tmp_path.iterdir())


def test_a_model_that_has_no_spec_or_another_head_is_refused(tiny, tmp_path):
    with pytest.raises(ExportError, match="expected a model compiled from a spec, got Linear"):
        exporter.export(nn.Linear(2, 2), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="expected a model whose global pooling averages, got 'max'"):
        exporter.export(seen(tiny, global_pool="max"), tmp_path / "model.onnx")


def test_the_model_is_left_as_it_was(tiny, tmp_path):
    network = seen(tiny).double().train()
    exporter.export(network, tmp_path / "model.onnx")
    assert network.training
    assert next(network.parameters()).dtype == torch.float64
    assert next(network.parameters()).requires_grad


def changed(path, change):
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)


def without_spec(proto):
    del proto.metadata_props[:]


def broken_spec(proto):
    next(entry for entry in proto.metadata_props if entry.key == "spec").value = '{"name": 1}'


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
        (one_node_less, "expected the graph of its spec, got another"),
        (another_weight, "expected weights by their names"),
        (by_numbers, "expected weights by their names, as this version writes them, got one by version"),
    ],
)
def test_file_that_is_not_ours_any_more_is_not_loaded(change, message, tiny, tmp_path):
    exporter.export(seen(tiny), tmp_path / "m.onnx")
    changed(tmp_path / "m.onnx", change)
    with pytest.raises(OnnxFileError, match=message):
        exporter.load(tmp_path / "m.onnx")


# Installs two packages into an environment of its own.
@pytest.mark.slow
def test_file_runs_where_only_onnxruntime_and_numpy_are_installed(tmp_path):
    network, images = load_model("robnet_micro.digits"), data.digits()[1].batch(slice(0, 5))[0]
    training = data.digits()[0]
    for precision in PRECISIONS:
        exporter.export(network, tmp_path / f"{precision}.onnx", ExportOptions(precision=precision), images=training)
    np.save(tmp_path / "images.npy", images.numpy())
    venv.create(tmp_path / "fresh", with_pip=True)
    python = next(path for path in (tmp_path / "fresh").glob("*/python*") if path.stem == "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"], check=True)
    code = (
        "import sys, numpy, onnxruntime\n"
        "x = numpy.load('images.npy')\n"
        "for name in sys.argv[1:]:\n"
        "    session = onnxruntime.InferenceSession(f'{name}.onnx', providers=['CPUExecutionProvider'])\n"
        "    numpy.save(f'{name}.npy', session.run(['logits'], {'images': x})[0])\n"
        "assert not {'torch', 'onnx', 'robnet_zoo'} & set(sys.modules)\n"
    )
    environment = {"PATH": str(python.parent)}
    subprocess.run([python, "-I", "-c", code, *PRECISIONS], cwd=tmp_path, env=environment, check=True)
    assert sys.prefix != str(tmp_path / "fresh")
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "fp32.npy"), expected, rtol=1e-4, atol=1e-4)
    for precision in PRECISIONS:
        assert (np.load(tmp_path / f"{precision}.npy").argmax(1) == expected.argmax(1)).all()
