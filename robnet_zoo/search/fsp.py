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
    """Return the FSP matrix of a cell for each image (paper, equation 3; Yim et al., 2017).

    It is the mean over pixels of the products of input and output channels. The paper leaves open what the input of a
    cell with two inputs is: here both, concatenated, each average-pooled to the output's size.

    Args:
        before, last: the cell's inputs, (N, C, H, W), of different C, H and W.
        output: its output, (N, C_out, h, w).

    Returns: (N, C_before + C_last, C_out).
    """
    size = (output.shape[2], output.shape[3])
    # (N, C_before + C_last, h, w)
    inputs = torch.cat([F.adaptive_avg_pool2d(before, size), F.adaptive_avg_pool2d(last, size)], dim=1)
    return torch.einsum("nihw,nohw->nio", inputs, output) / (size[0] * size[1])


def fsp_distances(network: Network, clean: Tensor, adversarial: Tensor) -> Tensor:
    """Return the sum over images of || G(x) - G(x') ||^2 for each cell (paper, equation 4 without 1 / N).

    Args:
        network: of L cells, used in the mode that it is in.
        clean, adversarial: the same images before and after an attack, (N, C, H, W).

    Returns: (L,), float64.
    """
    first, second = _flows(network, clean), _flows(network, adversarial)
    return torch.stack([(a - b).double().square().sum() for a, b in zip(first, second, strict=True)])


@torch.no_grad()
def _flows(network: Network, images: Tensor) -> list[Tensor]:
    """Return the FSP matrices of every cell."""
    matrices: list[Tensor] = []

    def add(_: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        matrices.append(fsp_matrix(*inputs, output))

    with after_each_cell(network, add):
        network.forward_features(images)
    return matrices


@contextmanager
def after_each_cell(network: Network, hook: object) -> Iterator[None]:
    """Call a forward hook of torch after each cell while the context lasts."""
    handles = [cell.register_forward_hook(hook) for cell in network.cells]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def score(candidate: Candidate, last: int) -> float:
    """Return the mean FSP distance of the last cells (paper, appendix F)."""
    return sum(candidate.fsp[-last:]) / len(candidate.fsp[-last:])


def kept(candidates: Sequence[Candidate], filter: Filter) -> list[Candidate]:
    """Return the candidates that the filter keeps, in their order; see `config.Filter`.

    A candidate without FSP distances is not kept. Raises SearchError if candidates have distances and none is kept.
    """
    scores = {candidate.index: score(candidate, filter.last) for candidate in candidates if candidate.fsp}
    if filter.threshold is not None:
        chosen = {index for index, distance in scores.items() if distance <= filter.threshold}
        if scores and not chosen:
            raise SearchError(
                f"expected candidates with an FSP distance of at most {filter.threshold:g}, got none of {len(scores)}, "
                f"the lowest with {min(scores.values()):.3g}; `keep` takes a share instead"
            )
    else:
        ranked = sorted(scores, key=lambda index: (scores[index], index))
        chosen = set(ranked[: max(1, round(filter.keep * len(scores)))])
    return [candidate for candidate in candidates if candidate.index in chosen]
