"""Two targets are compared by what they compute: logits, input gradients, predictions, and where graphs part."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from robnet_zoo import data
from robnet_zoo.benchmarks import Likeness, compare_targets, load_target, of_module
from robnet_zoo.converters.onnx import export
from robnet_zoo.errors import DataError, TargetError
from tests.converters.onnx.quantised_files import plain
from tests.small_networks import SPECS, network_of

PIXELS = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = data.Images(PIXELS, torch.arange(20) % 4, "noise")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a file, the same with another bias, and the same that ends in probabilities."""
    folder = tmp_path_factory.mktemp("likeness")
    model = onnx.load(plain(folder / "plain.onnx"))
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Softmax", ["scores"], ["logits"]))
    onnx.save(model, folder / "probabilities.onnx")
    model = onnx.load(folder / "plain.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "b3")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([0, 5, 0, 0]), "b3"))
    onnx.save(model, folder / "biased.onnx")
    return folder


@pytest.fixture(scope="module")
def network():
    return network_of(SPECS["cells that read one input"]).float()


def test_an_exported_file_is_its_model_and_names_its_weights(network, tmp_path):
    export(network, tmp_path / "m.onnx", images=IMAGES)
    likeness = compare_targets(of_module(network, name="m", dtype="float32"), load_target(tmp_path / "m.onnx"), IMAGES)
    assert likeness.same
    assert likeness.exported_from_other is True
    assert likeness.gradients.share < 1e-3
    assert (likeness.other_answers, likeness.parting, likeness.data.n) == ((), None, 20)
    assert Likeness.loads(likeness.dumps()) == likeness


def test_a_file_of_other_weights_is_told_from_the_model_at_its_first_convolution(network, tmp_path):
    export(network, tmp_path / "m.onnx", images=IMAGES)
    other = of_module(network_of(SPECS["cells that read one input"], seed=1).float(), name="other", dtype="float32")
    likeness = compare_targets(other, load_target(tmp_path / "m.onnx"), IMAGES)
    assert not likeness.same
    assert likeness.exported_from_other is False
    assert (likeness.parting.first.operator, likeness.parting.second.operator) == ("Conv", "Conv")
    assert likeness.parting.first.number == 1


def test_differences_are_those_of_the_answers_themselves(folder):
    first, second = (load_target(folder / name) for name in ("plain.onnx", "biased.onnx"))
    likeness = compare_targets(first, second, IMAGES)
    assert likeness.logits.difference == pytest.approx(5, abs=1e-5)  # of the bias that was changed
    assert (likeness.parting.first.operator, likeness.parting.second.name) == ("Gemm", "head")
    answers = [target.judge(IMAGES.batch(slice(None))[0]).argmax(1) for target in (first, second)]
    differing = (answers[0] != answers[1]).nonzero().flatten().tolist()
    assert [answer.sample for answer in likeness.other_answers] == differing
    assert len(differing) > 0
    assert {answer.second for answer in likeness.other_answers} == {1}  # the class whose bias grew
    assert "not the same function" in str(likeness)
    assert compare_targets(first, second, IMAGES, tolerance=9).same


def test_probabilities_are_compared_by_their_logarithms(folder):
    likeness = compare_targets(load_target(folder / "plain.onnx"), load_target(folder / "probabilities.onnx"), IMAGES)
    assert likeness.same
    assert likeness.logarithms


def test_a_normalisation_inside_one_of_them_is_taken_into_account(folder):
    model = onnx.load(folder / "plain.onnx")
    half = [numpy_helper.from_array(np.full((1, 1, 1, 1), 0.5, np.float32), "half")]
    model.graph.initializer.extend(half)
    model.graph.node[0].input[0] = "shifted"
    model.graph.node.insert(0, helper.make_node("Sub", ["images", "half"], ["shifted"]))
    onnx.save(model, folder / "inside.onnx")
    outside = load_target(folder / "biased.onnx", mean=0.5, std=1)
    likeness = compare_targets(outside, load_target(folder / "inside.onnx"), IMAGES)
    assert (likeness.parting.first.operator, likeness.parting.second.operator) == ("Gemm", "Gemm")


class Stepped(nn.Module):
    num_classes = 4

    def __init__(self, value=0.0):
        super().__init__()
        self.value = value

    def forward(self, images):
        return images.mean((2, 3)).mul(4).round() @ torch.ones(3, 4) + self.value


def test_modules_are_compared_without_gradients_and_without_a_graph():
    likeness = compare_targets(of_module(Stepped(), name="a"), of_module(Stepped(1.0), name="b"), IMAGES)
    assert "a is not a graph" in likeness.why_no_parting
    assert likeness.logits.difference == 1


def test_an_answer_that_is_not_finite_is_a_difference_unless_both_give_it(folder):
    finite, broken = (of_module(Stepped(value), name="m") for value in (0.0, float("nan")))
    likeness = compare_targets(finite, broken, IMAGES)
    assert likeness.logits.difference is None
    assert not likeness.same
    assert Likeness.loads(likeness.dumps()) == likeness
    assert compare_targets(broken, of_module(Stepped(float("nan")), name="n"), IMAGES).logits.difference == 0


def test_what_cannot_be_compared_is_refused_in_one_line(folder, network):
    file, five = load_target(folder / "plain.onnx"), of_module(network, name="five classes", dtype="float32")
    with pytest.raises(TargetError, match=r"^five classes: expected as many classes as .* has, 4, got 5$"):
        compare_targets(file, five, IMAGES)
    with pytest.raises(DataError, match="expected images of"):
        compare_targets(file, file, data.Images(PIXELS[..., :4], IMAGES.labels, "narrow"))
    with pytest.raises(DataError, match="noise: expected images to compare on, got none"):
        compare_targets(file, file, IMAGES[:0])
    with pytest.raises(TargetError, match="tolerance: expected a finite number"):
        compare_targets(file, file, IMAGES, tolerance=float("nan"))
