"""The harness: its figures, its documents, and the weights whose figures the package states."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from robnet_zoo import data, weights
from robnet_zoo.benchmarks import docs
from robnet_zoo.benchmarks import speed as speed_benchmark
from robnet_zoo.benchmarks.naive import naive
from robnet_zoo.benchmarks.protocol import WHITE_BOX, AttackConfig, Protocol, Result
from robnet_zoo.benchmarks.robustness import evaluate, weights_sha256
from robnet_zoo.compiler import compile
from robnet_zoo.documents import DocumentError
from robnet_zoo.zoo import load_model, load_spec, spec_names

ENTRIES = weights.manifest().entries


class Brightness(nn.Module):
    """Class 1 if the image is brighter than a half: its robust accuracy is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        bright = self.scale * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], dim=1)


@pytest.fixture
def grey() -> data.Images:
    """Even grey from 100 to 155 of 255; the labels are Brightness's own answers but for the first image."""
    values = torch.arange(100, 156, dtype=torch.uint8)
    labels = (values > 127).long()
    labels[0] = 1
    return data.Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")


@pytest.mark.parametrize("eps", ["2/255", "8/255", "1/4"])
def test_accuracies_are_those_of_the_closed_form(grey, eps):
    protocol = Protocol.parse(WHITE_BOX.model_dump() | {"eps": eps, "batch": 7})
    result = evaluate(Brightness(), grey, protocol, name="brightness", progress=False)
    distance = (torch.arange(100, 156) - 127.5).abs()
    expected = (distance > protocol.eps_value * 255).int()
    expected[0] = 0
    assert result.measurements[0].correct == (0,) + (1,) * 55
    assert result.measurements[1].correct == tuple(expected.tolist())
    assert result.measurements[2].correct == tuple(expected.tolist())
    assert result.accuracy("pgd20") == pytest.approx(expected.float().mean().item())


def test_forwards_and_gradients_are_counted_as_they_happen(grey):
    class Counting(Brightness):
        forwards = 0

        def forward(self, x):
            Counting.forwards += len(x)
            return super().forward(x)

    result = evaluate(Counting(), grey, WHITE_BOX, name="counting", progress=False)
    assert sum(measurement.forwards for measurement in result.measurements) == Counting.forwards
    assert [measurement.gradients for measurement in result.measurements] == [0, 56, 20 * 56]


def test_a_result_survives_its_file(grey, tmp_path):
    result = evaluate(Brightness(), grey, WHITE_BOX, name="brightness", progress=False)
    result.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == result


def test_a_model_is_left_in_its_mode(grey):
    model = Brightness().train()
    evaluate(model, grey, WHITE_BOX, name="brightness", progress=False)
    assert model.training


def test_the_weights_hash_depends_on_values_alone(tiny):
    first, second = compile(tiny), compile(tiny)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second)


@pytest.mark.parametrize("eps", ["0.03", "8 / 255", "-1/255", "8/", "1/0"])
def test_an_eps_that_is_no_fraction_is_refused(eps):
    with pytest.raises(DocumentError, match="eps: expected"):
        Protocol.parse(WHITE_BOX.model_dump() | {"eps": eps})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pgd", "step": None}, "step: expected a step size"),
        ({"kind": "fgsm", "steps": 2}, "steps: expected 1 for fgsm, got 2"),
    ],
)
def test_an_attack_without_its_parameters_is_refused(change, message):
    with pytest.raises(DocumentError, match=message):
        AttackConfig.parse({"name": "a"} | change)


@pytest.mark.parametrize("name", [name for name in spec_names() if "imagenet" not in name])
def test_the_naive_form_is_the_same_function(name):
    spec = load_spec(name)
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})
    network = compile(spec).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = network(images)
    torch.testing.assert_close(naive(network, spec)(images), expected)


def test_speed_is_measured_for_every_form_and_written(tiny, tmp_path):
    result = speed_benchmark.measure(tiny, batch=2, rounds=1)
    result.save(tmp_path / "speed.json")
    assert speed_benchmark.SpeedResult.load(tmp_path / "speed.json") == result
    works = {(row.form, row.work) for row in result.rows}
    assert ("inference bfloat16", "gradient") in works
    assert ("naive float32", "training") in works
    assert speed_benchmark.table(result).count("\n|") == 8


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.model}.{entry.tag}")
def test_bundled_weights_have_their_results_document(entry):
    result = Result.load(docs.RESULTS / f"{entry.model}.{entry.tag}.json")
    model = load_model(f"{entry.model}.{entry.tag}")
    assert result.model.weights_sha256 == weights_sha256(model)
    assert result.model.spec_hash == entry.spec_hash == load_spec(entry.model).hash
    measured = entry.measured
    assert (measured.clean, measured.fgsm, measured.pgd20) == tuple(
        result.accuracy(attack) for attack in ("clean", "fgsm", "pgd20")
    )
    for measurement in result.measurements:
        assert measurement.accuracy == sum(measurement.correct) / result.data.n


def test_the_figures_of_the_digits_weights_are_reproduced():
    stated = Result.load(docs.RESULTS / "robnet_micro.digits.json")
    images = data.digits()[1][:100]
    found = evaluate(load_model("robnet_micro.digits"), images, stated.protocol, name="again", progress=False)
    for before, now in zip(stated.measurements, found.measurements, strict=True):
        differing = sum(a != b for a, b in zip(before.correct, now.correct, strict=False))
        assert differing <= 1, now.attack  # another processor may round one image over the boundary


def test_the_clean_figure_of_the_cifar_weights_is_reproduced():
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        pytest.skip("ROBNET_ZOO_DATA does not name a folder with cifar10_test1k.npz")
    stated = Result.load(docs.RESULTS / "robnet_micro.cifar10.json")
    images = data.load(Path(folder) / "cifar10_test1k.npz")
    assert images.sha256 == stated.data.sha256
    protocol = Protocol(name="clean", attacks=())
    found = evaluate(load_model("robnet_micro.cifar10"), images, protocol, name="again", progress=False)
    assert abs(found.accuracy("clean") - stated.accuracy("clean")) <= 0.001


def test_the_readme_is_current():
    text = docs.README.read_text()
    assert docs.filled(text) == text, "run `make docs`"
