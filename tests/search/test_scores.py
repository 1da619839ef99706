"""Scores: each on a network where it has a closed form; none changes the network."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.nn.compiler import compile
from robnet_zoo.search import scores
from robnet_zoo.search.scores import SCORES, Scoring, computed
from tests.search.small_search import space

EPS = 0.25


class Linear(nn.Module):
    """Logits W x, without cells."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


class ScalarCell(nn.Module):
    """A cell whose output is a multiple of its second input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(self.conv.weight, 0.5)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        output: Tensor = self.conv(last)
        return output


class Scalar(nn.Module):
    """Logits (m, -m), where m is half the mean of an image: the convolution's weight is 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([ScalarCell()])

    def forward_features(self, images: Tensor) -> Tensor:
        output: Tensor = self.cells[0](images, images)
        return output

    def forward(self, images: Tensor) -> Tensor:
        mean = self.forward_features(images).mean((1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


IMAGE = torch.tensor([0.5, 0.25, 0.625, 0.375], dtype=torch.float64).reshape(1, 1, 2, 2)
GREY = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)


def scored(name: str, network: nn.Module, images: Tensor, label: int, *, eps: float = EPS) -> float:
    return computed(SCORES[name], Scoring(cast("Any", network), images, torch.tensor([label]), eps))


def residual(network: Linear, label: int) -> Tensor:
    """Return softmax(W x) - e_y, the gradient of the cross-entropy with respect to the logits."""
    return F.softmax(network(IMAGE)[0], dim=0) - F.one_hot(torch.tensor(label), 3)


def test_gradient_norm_of_a_linear_network_is_that_of_an_outer_product() -> None:
    network = Linear()
    expected = residual(network, 1).norm() * IMAGE.norm()
    assert scored("gradient_norm", network, IMAGE, 1) == pytest.approx(expected.item())


def test_input_gradient_norm_of_a_linear_network_is_that_of_the_residual_through_its_weights() -> None:
    network = Linear()
    expected = (network.weight.T @ residual(network, 2)).norm()
    assert scored("input_gradient_norm", network, IMAGE, 2) == pytest.approx(expected.item())


def test_input_alignment_of_a_linear_network_is_the_projection_on_the_row_of_the_answer() -> None:
    network = Linear()
    row = network.weight[network(IMAGE).argmax()]
    expected = (row @ IMAGE.flatten()).abs() / row.norm()
    assert scored("input_alignment", network, IMAGE, 0) == pytest.approx(expected.item())


def test_robust_ntk_trace_of_a_linear_network_is_the_squared_norm_of_the_attacked_image_for_each_logit() -> None:
    network = Linear()
    attacked = (IMAGE.flatten() + EPS * (network.weight.T @ residual(network, 1)).sign()).clamp(0, 1)
    expected = 3 * attacked.square().sum()
    assert scored("robust_ntk_trace", network, IMAGE, 1) == pytest.approx(expected.item())


def test_probes_estimate_the_exact_trace_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    images = torch.rand(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = 0.0
    for logit in network(images).flatten():
        exact += sum(
            float(g.square().sum()) for g in torch.autograd.grad(logit, network.parameters(), retain_graph=True)
        )
    monkeypatch.setattr(scores, "PROBES", 1000)
    scoring = Scoring(cast("Any", network), images, torch.tensor([0, 1]), 0.0)
    assert computed(SCORES["robust_ntk_trace"], scoring) == pytest.approx(exact / 2, rel=0.05)


@pytest.mark.parametrize(("label", "attacked"), [(0, 0.25), (1, 0.75)])
def test_fsp_distance_of_a_scalar_cell_is_that_of_squares(label: int, attacked: float) -> None:
    # Of a grey image g, both inputs are g and the output is g / 2: the matrix has g * g / 2 twice.
    expected = 2 * (attacked**2 / 2 - 0.5**2 / 2) ** 2
    assert scored("fsp_distance", Scalar(), GREY, label) == pytest.approx(expected)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 4.0)])
def test_consistency_of_a_scalar_cell_is_all_or_nothing(label: int, expected: float) -> None:
    # Up the loss by twice its norm, a weight w becomes 3 w or -w: cosines of features and weights are 1 or -1.
    assert scored("consistency", Scalar(), GREY, label) == pytest.approx(expected)


def test_consistency_of_a_network_that_is_not_moved_is_four_for_each_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "REACH", 0.0)
    network = compile(space("cell_free").supernet()).double()
    images, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.arange(4)
    layers = sum(isinstance(layer, nn.Conv2d) for layer in network.cells.modules())
    score = computed(SCORES["consistency"], Scoring(network, images, labels, 0.0))
    assert score == pytest.approx(4 * layers)


def test_weights_before_a_norm_move_at_a_right_angle() -> None:
    # Batch norms make the loss independent of the scale of a convolution, so its gradient is orthogonal to it.
    network = compile(space("cell_based").supernet()).double().train()
    loss = F.cross_entropy(network(torch.rand(8, 3, 8, 8, dtype=torch.float64)), torch.arange(8))
    (weight,) = [weight for key, weight in network.named_parameters() if "0->2.sep_conv_3x3.6" in key][:1]
    (gradient,) = torch.autograd.grad(loss, weight)
    moved = weight + scores.REACH * weight.norm() * gradient / gradient.norm()
    assert F.cosine_similarity(weight.flatten(), moved.flatten(), dim=0).item() == pytest.approx(
        1 / math.sqrt(5), abs=1e-3
    )


def test_baselines_count() -> None:
    spec = space("cell_based").genotype(["01 10 11 10 00"], name="counted")
    scoring = Scoring(compile(spec), torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), EPS)
    assert computed(SCORES["convolutions"], scoring) == 2 * 3  # in each of three cells
    assert computed(SCORES["parameters"], scoring) == sum(each.numel() for each in compile(spec).parameters())


@pytest.mark.parametrize("name", SCORES)
def test_a_score_leaves_the_network_as_it_is_and_is_the_same_again(name: str) -> None:
    network = compile(space("cell_based").supernet()).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    scoring = Scoring(network, torch.rand(4, 3, 8, 8), torch.arange(4), EPS)
    first, second = (computed(SCORES[name], scoring) for _ in range(2))
    assert first == second
    assert math.isfinite(first)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(cell._forward_hooks for cell in network.cells)
