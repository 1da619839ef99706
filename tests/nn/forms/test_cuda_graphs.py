"""Replayed graphs give what the classifier gives, to every attack, though each graph writes over its last answer.

Without a GPU, graphs are played by `fixed_buffers`, which has what makes them dangerous: one shape, the same memory for
every answer, and a backward pass of the latest forward pass.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import run
from robnet_zoo.errors import ModelError
from robnet_zoo.nn.forms.cuda_graphs import MOST_SHAPES, Function, Replayed
from tests.attacks.classifiers import ATTACKS, small

EPS = {"linf": 0.03, "l2": 0.25}


def fixed_buffers(function: Function, samples: tuple[Tensor]) -> Any:
    """Return what replays a function as `torch.cuda.make_graphed_callables` does, on any device."""
    x = samples[0]
    logits = function(x).detach().clone()
    gradient = torch.zeros_like(x)

    class Played(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, images: Tensor) -> Tensor:
            assert images.shape == x.shape
            x.detach().copy_(images)
            with torch.no_grad():
                logits.copy_(function(x))
            return logits.detach()

        @staticmethod
        def backward(ctx: Any, *weights: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                gradient.copy_(torch.autograd.grad(function(leaf), leaf, weights)[0])
            return gradient.detach()

    return Played.apply


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small()


@pytest.fixture
def replayed(network: nn.Module) -> Replayed:
    return Replayed(network, capture=fixed_buffers)


def images_of(count: int) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if not attack.gradient_free])
def test_attacks_have_the_same_outcomes_on_graphs_as_on_the_classifier(
    name: str, network: nn.Module, replayed: Replayed
) -> None:
    attack, images = ATTACKS[name], images_of(10)
    labels = network(images).argmax(1)
    eps = EPS[attack.ball]
    expected = run(attack, network, images, labels, eps=eps, slots=4)
    outcomes = run(attack, replayed, images, labels, eps=eps, slots=4, judge=network)
    assert replayed.graphs
    for outcome, other in zip(outcomes, expected, strict=True):
        assert torch.equal(outcome.image, other.image)
        assert (outcome.fooled, outcome.step, outcome.margin) == (other.fooled, other.step, other.margin)


def test_the_batches_of_an_attack_have_one_shape_until_slots_are_idle(network: nn.Module, replayed: Replayed) -> None:
    images = images_of(50)
    labels = network(images).argmax(1)
    for seed in range(3):
        run(ATTACKS["pgd"], replayed, images, labels, eps=0.03, slots=8, seed=seed, judge=network)
    assert {shape[0][0] for shape in replayed.graphs} <= {8, 4, 2, 1}


def test_an_answer_and_its_gradient_outlive_the_next_ones(network: nn.Module, replayed: Replayed) -> None:
    first, second = images_of(4).requires_grad_(), images_of(8)[4:].requires_grad_()
    answers, gradients = [], []
    for x in (first, second):
        logits = replayed(x)
        answers.append(logits.detach())
        gradients += torch.autograd.grad(logits.square().sum(), x)
    for x, answer, gradient in zip((first, second), answers, gradients, strict=True):
        logits = network(x)
        assert torch.equal(answer, logits)
        assert torch.equal(gradient, torch.autograd.grad(logits.square().sum(), x)[0])


def test_the_gradients_of_an_earlier_answer_are_refused(replayed: Replayed) -> None:
    x, y = images_of(4).requires_grad_(), images_of(4).requires_grad_()
    earlier = replayed(x)
    replayed(y)
    with pytest.raises(ModelError, match="the latest answer"):
        earlier.sum().backward()


def test_what_asks_for_no_gradient_is_not_captured(network: nn.Module, replayed: Replayed) -> None:
    assert torch.equal(replayed(images_of(4)), network(images_of(4)))
    with torch.no_grad():
        replayed(images_of(4).requires_grad_())
    assert not replayed.graphs


def test_many_shapes_are_answered_and_few_are_kept(network: nn.Module, replayed: Replayed) -> None:
    for count in range(1, MOST_SHAPES + 3):
        x = images_of(count).requires_grad_()
        assert torch.equal(replayed(x), network(x))
    assert len(replayed.graphs) == MOST_SHAPES


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_of_a_gpu_give_what_the_classifier_gives(network: nn.Module) -> None:
    classifier = small().to("cuda").requires_grad_(False)
    replayed = Replayed(classifier)
    for seed in range(3):
        x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).to("cuda").requires_grad_()
        torch.testing.assert_close(replayed(x), classifier(x))
        expected, gradient = (torch.autograd.grad(model(x).square().sum(), x)[0] for model in (classifier, replayed))
        torch.testing.assert_close(gradient, expected)
