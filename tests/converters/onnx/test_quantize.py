"""Quantised weights fit every processor, and the head keeps its answers."""

import numpy as np
import onnx
from onnx import numpy_helper

from robnet_zoo import data
from robnet_zoo.converters.onnx import ExportOptions, export
from robnet_zoo.zoo.registry import load_model


def test_int8_has_a_scale_a_channel_and_keeps_what_the_head_says(tmp_path):
    network, images = load_model("robnet_micro.digits"), data.digits()[0]
    report = export(network, tmp_path / "m.onnx", ExportOptions(precision="int8", calibration=64), images=images)
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
