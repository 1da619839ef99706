"""Two graphs part at the operator that was changed, whatever their values are called and however they are split up."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.parting import Parting, graph_of_file, graph_of_network, node_values, part
from robnet_zoo.errors import UnsupportedError
from tests.converters.onnx.quantised_files import plain, quantised
from tests.small_networks import SPECS, network_of

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return plain(tmp_path_factory.mktemp("parting") / "plain.onnx")


def graph(model, path):
    onnx.save(model, path)
    return graph_of_file(OnnxClassifier(path), IMAGE)


def scaled(model, name, factor=1.5):
    """Multiply an initialiser."""
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    return model


def renamed(model):
    """Give all values but input and output other names."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in ("images", "logits") else f"other/{name}" for name in names]
        node.name = ""
    for tensor in model.graph.initializer:
        tensor.name = f"other/{tensor.name}"
    return model


def parted(first, second, *, tolerance=1e-4):
    parting = part(first, second, tolerance=tolerance)
    return [node and (node.operator, node.number) for node in (parting.first, parting.second)]


@pytest.mark.parametrize(("changed", "expected"), [("w1", ("Conv", 1)), ("w2", ("Conv", 3)), ("b3", ("Gemm", 7))])
def test_graphs_part_at_the_changed_operator_whatever_its_values_are_called(original, tmp_path, changed, expected):
    first = graph_of_file(OnnxClassifier(original), IMAGE)
    second = graph(scaled(renamed(onnx.load(original)), f"other/{changed}"), tmp_path / "second.onnx")
    assert parted(first, second) == [expected, expected]


def test_graphs_of_the_same_function_do_not_part(original, tmp_path):
    first = graph_of_file(OnnxClassifier(original), IMAGE)
    assert part(first, graph(renamed(onnx.load(original)), tmp_path / "b.onnx"), tolerance=1e-6) == Parting()


def with_norm(model):
    """Split the first convolution into a convolution and a batch norm."""
    scale = np.linspace(0.5, 2, 8, dtype=np.float32)
    scaled(model, "w1", 1 / scale[:, None, None, None])
    statistics = {"scale": scale, "shift": np.zeros(8), "mean": np.zeros(8), "var": np.ones(8)}
    model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), k) for k, v in statistics.items())
    norm = helper.make_node("BatchNormalization", ["a0", *statistics], ["a"], epsilon=0.0)
    model.graph.node[0].output[0] = "a0"
    model.graph.node.insert(1, norm)
    return model


def test_a_norm_that_was_folded_is_not_where_graphs_part(original, tmp_path):
    first = graph_of_file(OnnxClassifier(original), IMAGE)
    second = graph(scaled(with_norm(onnx.load(original)), "w2"), tmp_path / "second.onnx")
    assert parted(first, second) == [("Conv", 3), ("Conv", 4)]
    other_norm = graph(scaled(with_norm(onnx.load(original)), "scale"), tmp_path / "other_norm.onnx")
    assert parted(first, other_norm) == [("Conv", 1), ("Conv", 1)]


def test_a_graph_that_goes_on_behind_the_others_logits_parts_there(original, tmp_path):
    longer = onnx.load(original)
    longer.graph.node[-1].output[0] = "scores"
    longer.graph.node.append(helper.make_node("Softmax", ["scores"], ["logits"]))
    first, second = graph_of_file(OnnxClassifier(original), IMAGE), graph(longer, tmp_path / "longer.onnx")
    assert parted(first, second) == [None, ("Softmax", 8)]


def test_a_quantised_file_parts_from_its_source_at_the_first_operator_that_rounds(original, tmp_path):
    first = graph_of_file(OnnxClassifier(original), IMAGE)
    second = graph_of_file(OnnxClassifier(quantised(tmp_path, "qdq")), IMAGE)
    assert parted(first, second) == [("Conv", 1), ("QuantizeLinear", 1)]
    assert parted(first, second, tolerance=0.2) == [None, None]


def test_a_network_parts_from_a_file_with_another_head_at_the_head(tmp_path):
    network = network_of(SPECS["cells that read one input"]).float()
    exported = graph_of_network(network, IMAGE)
    file = graph(scaled(exported.proto, "classifier.weight"), tmp_path / "head.onnx")
    assert [node[0] for node in parted(graph_of_network(network, IMAGE), file)] == ["Gemm", "Gemm"]


def test_the_image_is_repeated_to_the_batch_of_the_file(original, tmp_path):
    fixed = onnx.load(original)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    shown = dict(node_values(graph(fixed, tmp_path / "fixed.onnx")))
    assert shown["logits"].shape == (3, 4)
    np.testing.assert_array_equal(shown["logits"][0], shown["logits"][2])


def test_a_graph_that_cannot_show_its_values_is_refused_in_one_line(original):
    opened = graph_of_file(OnnxClassifier(original), IMAGE)
    opened.proto.graph.node[2].op_type = "Konv"
    with pytest.raises(UnsupportedError, match=r"^ONNX Runtime does not show what is between input and output: .*Konv"):
        list(node_values(opened))
