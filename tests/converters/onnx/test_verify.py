"""A file is never written if its logits are not those of its model."""

import pytest
import torch

from robnet_zoo.converters.onnx import ExportOptions, export
from robnet_zoo.converters.onnx import exporter as exporter_module
from robnet_zoo.converters.onnx import graph as graph_module
from robnet_zoo.converters.onnx import verify as verify_module
from robnet_zoo.converters.onnx.verify import BATCHES
from robnet_zoo.errors import ExportError
from robnet_zoo.nn.compiler import compile
from tests.converters.onnx.exports import seen


def test_logits_that_differ_are_an_error_and_nothing_is_written(monkeypatch, tiny, tmp_path):
    put = graph_module.Placement.put
    monkeypatch.setattr(graph_module.Placement, "put", lambda placement, tensor: put(placement, tensor) * 1.01)
    with pytest.raises(ExportError, match=r"expected logits within \S+ of torch's, got \S+ away"):
        export(seen(tiny), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    export(seen(tiny), tmp_path / "model.onnx", ExportOptions(prove=False))
    assert (tmp_path / "model.onnx").exists()


def test_a_file_is_compared_at_batches_of_1_7_and_64(tiny, tmp_path, monkeypatch):
    for module in (exporter_module, verify_module):
        monkeypatch.setattr(module, "BATCHES", BATCHES)
    report = export(seen(tiny), tmp_path / "m.onnx")
    assert {comparison.batch for comparison in report.comparisons} == {1, 7, 64}


def test_network_that_float32_itself_cannot_hold_is_allowed_its_own_rounding_and_the_report_says_so(tiny, tmp_path):
    network = seen(tiny)
    with torch.no_grad():  # logits around 1, as the difference of numbers around 100,000
        network.classifier.weight.mul_(3e4)
        network.classifier.bias.copy_(-network(torch.full((1, 3, 32, 32), 0.5))[0] + network.classifier.bias)
    export(network, tmp_path / "m.onnx", ExportOptions(prove=False))
    flat = torch.full((2, 3, 32, 32), 0.5)
    comparisons, rounding = verify_module.verify(network, (tmp_path / "m.onnx").read_bytes(), flat, batch=None)
    difference = max(comparison.difference for comparison in comparisons)
    assert rounding is not None
    assert difference > verify_module.TOLERANCE


def test_a_graph_that_onnx_runtime_refuses_is_one_line_and_no_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        exporter_module, "_check", lambda proto, path: proto.graph.node[0].CopyFrom(proto.graph.node[-1])
    )
    with pytest.raises(ExportError, match=r"m\.onnx: expected a graph that ONNX Runtime can run, got: ") as raised:
        export(compile(tiny), tmp_path / "m.onnx")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "m.onnx").exists()
