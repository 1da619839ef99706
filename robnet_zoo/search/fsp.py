"""Flow of solution procedure: how far an attack moves what a cell does to its features (paper, equations 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.errors import SearchError
from robnet_zoo.nn.network import Network
from robnet_zoo.search.config import Filter
from robnet_zoo.search.result import Candidate


def fsp_matrix(before: Tensor, last: Tensor, output: Tensor) -> Tensor:
    """The FSP matrix of a cell for each image (paper, equation 3; Yim et al., 2017).

    before, last: the cell's inputs, (N, C, H, W). output: (N, C_out, h, w). Returns (N, C_before + C_last, C_out): the
    mean over pixels of the products of input and output channels. The paper leaves open what the input feature map of
    a cell with two inputs is: here both, concatenated, each average-pooled to the output's size.
    """
    size = (output.shape[2], output.shape[3])
    inputs = torch.cat([F.adaptive_avg_pool2d(before, size), F.adaptive_avg_pool2d(last, size)], dim=1)
    return torch.einsum("nihw,nohw->nio", inputs, output) / (size[0] * size[1])


def fsp_distances(network: Network, clean: Tensor, adversarial: Tensor) -> Tensor:
    """Of each cell, the sum over images of || G(x) - G(x') ||^2 (paper, equation 4 without 1 / N): (L,), float64.

    clean, adversarial: (N, C, H, W), the same images before and after an attack. The network is used in its own mode.
    """
    first, second = _flows(network, clean), _flows(network, adversarial)
    return torch.stack([(a - b).double().square().sum() for a, b in zip(first, second, strict=True)])


@torch.no_grad()
def _flows(network: Network, images: Tensor) -> list[Tensor]:
    """The FSP matrices of every cell."""
    found: list[Tensor] = []

    def seen(_: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        found.append(fsp_matrix(*inputs, output))

    with _hooked(network, seen):
        network.forward_features(images)
    return found


@contextmanager
def _hooked(network: Network, hook: object) -> Iterator[None]:
    handles = [cell.register_forward_hook(hook) for cell in network.cells]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def score(candidate: Candidate, last: int) -> float:
    """The mean FSP distance of the last cells (paper, appendix F)."""
    return sum(candidate.fsp[-last:]) / len(candidate.fsp[-last:])


def kept(candidates: Sequence[Candidate], filter: Filter) -> list[Candidate]:
    """The candidates that the filter lets through, in their order: see `config.Filter`. Those with a score alone.

    Raises SearchError if there are none.
    """
    scores = {candidate.index: score(candidate, filter.last) for candidate in candidates if candidate.fsp}
    if filter.threshold is not None:
        left = [each for each in candidates if each.index in scores and scores[each.index] <= filter.threshold]
        if not left and scores:
            found = f"none of {len(scores)}, the lowest with {min(scores.values()):.3g}; `keep` takes a share instead"
            raise SearchError(f"expected candidates with an FSP distance of at most {filter.threshold:g}, got {found}")
        return left
    best = sorted(scores, key=lambda index: (scores[index], index))[: max(1, round(filter.keep * len(scores)))]
    return [each for each in candidates if each.index in set(best)]
