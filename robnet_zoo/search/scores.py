"""Cheap scores: numbers of a network, at its start or with inherited weights, that may rank architectures.

A score is a function of a network, images and labels. It sees the network with the statistics of the batch in batch
norms, since those of a network at its start are not those of any images; the network is not changed. A new score is a
function and an entry in SCORES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from robnet_zoo.attacks import fgsm
from robnet_zoo.nn.network import Network
from robnet_zoo.search.fsp import after_each_cell, fsp_distances
from robnet_zoo.training.adversary import batch_statistics

REACH = 2.0  # of CRoZe's move of the weights, in units of their norm; as in its authors' code
PROBES = 4  # random vectors that estimate a trace


@dataclass(frozen=True, eq=False)
class Scoring:
    """What a score is computed on.

    Args:
        network: of the images' classes.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        eps: the radius of attacks, in image units.
        seed: of random vectors.
    """

    network: Network
    images: Tensor
    labels: Tensor
    eps: float
    seed: int = 0

    def adversarial(self) -> Tensor:
        """Return the images after a single step of the attack (FGSM), (N, C, H, W)."""
        return fgsm(self.network, self.images, self.labels, eps=self.eps)


def fsp_distance(scoring: Scoring) -> float:
    """Return the mean FSP distance of the cells between clean and attacked images (paper, equation 4)."""
    distances = fsp_distances(scoring.network, scoring.images, scoring.adversarial())
    return float(distances.mean()) / len(scoring.images)


def gradient_norm(scoring: Scoring) -> float:
    """Return the sum over weight tensors of the norm of the loss's gradient (Abdelfattah et al., ICLR 2021)."""
    loss = F.cross_entropy(scoring.network(scoring.images), scoring.labels)
    gradients = torch.autograd.grad(loss, list(scoring.network.parameters()), allow_unused=True)
    return sum(float(gradient.norm()) for gradient in gradients if gradient is not None)


def input_gradient_norm(scoring: Scoring) -> float:
    """Return the mean over images of the norm of the loss's gradient with respect to the image."""
    images = scoring.images.detach().requires_grad_()
    loss = F.cross_entropy(scoring.network(images), scoring.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return float(gradient.flatten(1).norm(dim=1).mean())


def input_alignment(scoring: Scoring) -> float:
    """Return the mean over images of |<x, g>| / ||g||, g the gradient of the highest logit (Etmann et al., ICML 2019).

    A gradient that is zero is aligned with nothing.
    """
    images = scoring.images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(scoring.network(images).amax(1).sum(), images)
    flat = gradient.flatten(1)  # (N, C * H * W)
    products = (flat * scoring.images.flatten(1)).sum(1).abs()
    return float((products / flat.norm(dim=1).clamp_min(1e-30)).mean())


def consistency(scoring: Scoring) -> float:
    """Return the consistency of a network with a robust surrogate of it (CRoZe; Ha et al., NeurIPS 2023).

    The surrogate's convolutions are moved up the loss, each by twice its norm, and it sees images attacked by a step
    against it. The score is the sum over the cells' convolutions of (1 + cos(z, z')) (1 + cos(w, w')) |cos(g, g')|,
    where z is the output of the cell, w the weights, and g the loss's gradient of w; the surrogate's are primed. The
    authors' code also takes absolute values of all weights first, which this function does not.
    """
    network = scoring.network
    weights = {
        f"cells.{depth}.{name}.weight": layer.weight
        for depth, cell in enumerate(network.cells)
        for name, layer in cell.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    features, gradients = _outputs_and_gradients(scoring, weights, scoring.images)
    moved = {}
    for (key, weight), gradient in zip(weights.items(), gradients, strict=True):
        direction = gradient / gradient.norm().clamp_min(1e-30)
        moved[key] = (weight + REACH * weight.norm() * direction).detach().requires_grad_()
    attacked = fgsm(_Surrogate(network, moved), scoring.images, scoring.labels, eps=scoring.eps)
    features_moved, gradients_moved = _outputs_and_gradients(scoring, moved, attacked)
    total = 0.0
    for key, gradient, gradient_moved in zip(weights, gradients, gradients_moved, strict=True):
        depth = int(key.split(".")[1])
        total += (
            (1 + _cosine(features[depth], features_moved[depth]))
            * (1 + _cosine(weights[key], moved[key]))
            * abs(_cosine(gradient, gradient_moved))
        )
    return total


def robust_ntk_trace(scoring: Scoring) -> float:
    """Return the trace of the robust neural tangent kernel, at attacked images (Wu et al., ICLR 2024), an image.

    The kernel is J J^T, J the derivatives of all logits of all images with respect to the weights. Its trace is the
    mean of ||J^T v||^2 over random signs v (Hutchinson, 1989), here over PROBES of them.
    """
    attacked = scoring.adversarial()
    weights = list(scoring.network.parameters())
    generator = torch.Generator().manual_seed(scoring.seed)
    logits = scoring.network(attacked)  # (N, K)
    total = 0.0
    for probe in range(PROBES):
        signs = 2 * torch.randint(0, 2, logits.shape, generator=generator).to(logits) - 1
        gradients = torch.autograd.grad(
            (logits * signs).sum(), weights, retain_graph=probe + 1 < PROBES, allow_unused=True
        )
        total += sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
    return total / PROBES / len(logits)


def convolutions(scoring: Scoring) -> float:
    """Return the number of operations that count as convolutions: a baseline."""
    return float(scoring.network.spec.direct_convs + scoring.network.spec.skip_convs)


def parameter_count(scoring: Scoring) -> float:
    """Return the number of parameters: a baseline."""
    return float(sum(parameter.numel() for parameter in scoring.network.parameters()))


@dataclass(frozen=True)
class Score:
    """A score.

    Args:
        compute: returns it.
        rising: whether a higher score is said to mean more robustness.
    """

    compute: Callable[[Scoring], float]
    rising: bool = True


BASELINE = "convolutions"
SCORES: Mapping[str, Score] = MappingProxyType(
    {
        BASELINE: Score(convolutions),
        "parameters": Score(parameter_count),
        "fsp_distance": Score(fsp_distance, rising=False),
        "gradient_norm": Score(gradient_norm),
        "input_gradient_norm": Score(input_gradient_norm, rising=False),
        "input_alignment": Score(input_alignment),
        "consistency": Score(consistency),
        "robust_ntk_trace": Score(robust_ntk_trace),
    }
)


def computed(score: Score, scoring: Scoring) -> float:
    """Return a score of a network, with the statistics of the batch in its batch norms; the network stays as it is."""
    with batch_statistics(scoring.network):
        return score.compute(scoring)


class _Surrogate(nn.Module):
    """A network with other weights."""

    def __init__(self, network: Network, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._parts = (network, weights)  # a tuple, so that the network is not a part of this one

    def forward(self, images: Tensor) -> Tensor:
        network, weights = self._parts
        logits: Tensor = functional_call(network, dict(weights), (images,))
        return logits


def _outputs_and_gradients(
    scoring: Scoring, weights: Mapping[str, Tensor], images: Tensor
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Return the output of every cell, and the loss's gradients of some weights that the network then has.

    Args:
        scoring: the network and the labels.
        weights: by key.
        images: (N, C, H, W).
    """
    outputs: list[Tensor] = []
    with after_each_cell(scoring.network, lambda _, __, output: outputs.append(output)):
        logits = functional_call(scoring.network, dict(weights), (images,))
    gradients = torch.autograd.grad(F.cross_entropy(logits, scoring.labels), list(weights.values()))
    return [output.detach() for output in outputs], gradients


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(F.cosine_similarity(first.detach().flatten(), second.detach().flatten(), dim=0, eps=1e-30))
