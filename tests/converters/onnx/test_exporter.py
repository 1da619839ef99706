"""The exported file: equal to torch, as the options ask, and never written where it is not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.converters.onnx import ExportOptions, OnnxClassifier, export, load
from robnet_zoo.errors import ExportError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import state_sha256
from tests.converters.onnx.exports import PRECISIONS, away, metadata, narrow, pictures, seen, short


@pytest.mark.parametrize("name", spec_names())
def test_every_bundled_spec_is_written_in_every_precision(name, tmp_path):
    spec = short(narrow(load_spec(name)))
    network, images = seen(spec), pictures(spec)
    for precision in ("fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        report = export(network, path, ExportOptions(precision=precision, calibration=16), images=images)
        assert OnnxClassifier(path)(torch.rand(2, *spec.network.input_size)).isfinite().all()
        assert metadata(path)["precision"] == report.precision == precision
        assert load(path).spec.hash == spec.hash


def test_inputs_outputs_and_metadata_are_as_promised(tiny, tmp_path):
    network = seen(tiny, num_classes=3, in_chans=1)
    report = export(network, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert [value.name for value in proto.graph.input] == ["images"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    sizes = [d.dim_value or d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 32, 32]
    assert proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3
    texts = metadata(tmp_path / "model.onnx")
    assert (texts["input_range"], texts["precision"]) == ("[0, 1]", "fp32")
    assert texts["version"] == proto.producer_version
    assert Genotype.parse(json.loads(texts["spec"])).hash == texts["spec_hash"] == tiny.hash
    assert texts["state_sha256"] == report.state_sha256 == state_sha256(network.state_dict())
    again = load(tmp_path / "model.onnx")
    assert (again.in_chans, again.num_classes) == (1, 3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("opset", [18, 22, onnx.defs.onnx_opset_version() - 3])
def test_the_opset_is_the_one_asked_for(precision, opset, tiny, tmp_path):
    options = ExportOptions(precision=precision, opset=opset, calibration=16)
    export(seen(tiny), tmp_path / "m.onnx", options, images=pictures(tiny))
    imports = {entry.domain: entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import}
    assert imports == {"": opset}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_and_size_are_fixed_where_they_are_asked_for(precision, tiny, tmp_path):
    network = seen(tiny)
    pixels = torch.randint(0, 256, (16, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = data.Images(pixels, torch.zeros(16, dtype=torch.int64), "noise")
    options = ExportOptions(precision=precision, batch=3, input_size=(64, 32), calibration=9)
    report = export(network, tmp_path / "m.onnx", options, images=images)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [3, 3, 64, 32]
    assert {comparison.batch for comparison in report.comparisons} == {3}
    x = images.batch(slice(0, 7))[0]
    assert away(network, OnnxClassifier(tmp_path / "m.onnx"), x) < {"fp32": 1e-5, "fp16": 0.01, "int8": 0.3}[precision]


def test_size_that_the_reductions_cannot_halve_is_refused(tiny, tmp_path):
    with pytest.raises(ExportError, match="expected a height and width that 4 divides, got 30 and 32"):
        export(seen(tiny), tmp_path / "m.onnx", ExportOptions(input_size=(30, 32)))


def test_int8_asks_for_real_images_and_compares_on_others_than_it_calibrates_on(tiny, tmp_path):
    options = ExportOptions(precision="int8", calibration=16)
    with pytest.raises(ExportError, match="expected real images, on which int8 finds"):
        export(seen(tiny), tmp_path / "m.onnx", options)
    images = pictures(tiny, 26)
    report = export(seen(tiny), tmp_path / "m.onnx", options, images=images)
    assert report.calibration == images[:16].sha256
    assert [comparison.n for comparison in report.comparisons if comparison.images == "real"] == [1, 7, 10]


def test_weights_beyond_the_range_of_fp16_are_refused(tiny, tmp_path):
    network = seen(tiny)
    with torch.no_grad():
        network.stem[0][1].weight.mul_(1e6)
    with pytest.raises(ExportError, match=r"expected weights that its precision can hold, got others in stem\.0\.0"):
        export(network, tmp_path / "m.onnx", ExportOptions(precision="fp16"))
    assert not list(tmp_path.iterdir())


def test_a_model_that_has_no_spec_or_another_head_is_refused(tiny, tmp_path):
    with pytest.raises(ExportError, match="expected a model compiled from a spec, got Linear"):
        export(nn.Linear(2, 2), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="expected a model whose global pooling averages, got 'max'"):
        export(seen(tiny, global_pool="max"), tmp_path / "model.onnx")


def test_the_model_is_left_as_it_was(tiny, tmp_path):
    network = seen(tiny).double().train()
    export(network, tmp_path / "model.onnx")
    assert network.training
    assert next(network.parameters()).dtype == torch.float64
    assert next(network.parameters()).requires_grad


def test_file_runs_where_only_onnxruntime_and_numpy_are_installed(fitted, tmp_path):
    network = load_model(f"{fitted}/spec.json", weights=f"{fitted}/model.safetensors")
    images, training = data.digits()[1].batch(slice(0, 5))[0], data.digits()[0]
    for precision in PRECISIONS:
        export(network, tmp_path / f"{precision}.onnx", ExportOptions(precision=precision), images=training)
    np.save(tmp_path / "images.npy", images.numpy())
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in (Path(onnxruntime.__file__).parent, Path(np.__file__).parent):
        for path in folder.parent.glob(f"{folder.name}*"):  # with the libraries of numpy, which lie beside it
            (packages / path.name).symlink_to(path)
    code = (
        "import sys; sys.path.append('packages')\n"
        "import numpy, onnxruntime\n"
        "x = numpy.load('images.npy')\n"
        "for name in sys.argv[1:]:\n"
        "    session = onnxruntime.InferenceSession(f'{name}.onnx', providers=['CPUExecutionProvider'])\n"
        "    numpy.save(f'{name}.npy', session.run(['logits'], {'images': x})[0])\n"
        "assert not {'torch', 'onnx', 'robnet_zoo'} & set(sys.modules)\n"
        "try:\n"
        "    import torch\n"
        "except ImportError:\n"
        "    sys.exit(0)\n"
        "sys.exit('expected no torch here')\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, *PRECISIONS]  # without the packages of this environment
    subprocess.run(command, cwd=tmp_path, check=True)
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "fp32.npy"), expected, rtol=1e-4, atol=1e-4)
    for precision in PRECISIONS:
        assert (np.load(tmp_path / f"{precision}.npy").argmax(1) == expected.argmax(1)).all()
