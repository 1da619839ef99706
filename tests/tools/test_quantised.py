"""Quantised files are written in every form, and measured in every way."""

from pathlib import Path

import onnx
import pytest
import torch

from robnet_zoo.data import Images
from tests.converters.onnx.quantised_files import SHAPE, plain
from tools import quantised


@pytest.mark.parametrize(
    ("form", "operator"), [("qdq", "QuantizeLinear"), ("qoperator", "QLinearConv"), ("dynamic", "ConvInteger")]
)
def test_a_form_has_its_operators_and_is_named_in_the_file(form: str, operator: str, tmp_path: Path) -> None:
    source = plain(tmp_path / "small.fp32.onnx")
    images = Images(torch.arange(16 * 192).view(16, *SHAPE).byte(), torch.zeros(16, dtype=torch.long), "ramps")
    path = quantised.quantised(source, form, images, per_channel=False)
    assert path.name == f"small.{form}.tensor.onnx"
    assert operator in {node.op_type for node in onnx.load(path).graph.node}


def test_each_way_to_look_is_measured_alone() -> None:
    ways = {protocol.name: protocol for protocol in quantised.protocols("8/255", 100)}
    assert [ways[name].looks for name in ("straight_through", "twin")] == [("straight_through",), ("twin",)]
    assert [attack.kind for attack in ways["square"].attacks] == ["square"]
