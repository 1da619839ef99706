"""FSP: equations 3 and 4 by hand, cell by cell, and the filter."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.errors import SearchError
from robnet_zoo.nn.compiler import compile, subnetwork
from robnet_zoo.search.config import Filter
from robnet_zoo.search.fsp import fsp_distances, fsp_matrix, kept, score
from robnet_zoo.search.result import Candidate
from tests.search.small_search import space
from tests.small_networks import genotype, network_of


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_matrix_is_equation_3_pixel_by_pixel() -> None:
    before, last, output = random(2, 3, 4, 4), random(2, 2, 4, 4, seed=1), random(2, 5, 4, 4, seed=2)
    inputs = torch.cat([before, last], dim=1)
    expected = torch.zeros(2, 5, 5, dtype=torch.float64)
    for s in range(4):
        for t in range(4):
            expected += inputs[:, :, s, t, None] * output[:, None, :, s, t] / (4 * 4)
    torch.testing.assert_close(fsp_matrix(before, last, output), expected)


def test_inputs_of_other_sizes_are_averaged_to_the_output() -> None:
    # A reduction cell after a reduction cell: inputs of 8 and 4 pixels, an output of 2. By hand for constant images.
    before, last, output = torch.full((1, 1, 8, 8), 3.0), torch.full((1, 2, 4, 4), 5.0), torch.full((1, 1, 2, 2), 7.0)
    last[:, 1, ::2] = 1.0  # rows of 1 and 5: their mean is 3
    assert fsp_matrix(before, last, output).tolist() == [[[21.0], [35.0], [21.0]]]


def test_distance_is_the_sum_over_images_of_the_squared_difference() -> None:
    spec = genotype({"a": {"0->2": ["sep_conv_3x3"], "1->2": ["identity"], "2->3": ["identity"]}}, "aaa")
    network, clean, adversarial = network_of(spec), random(3, 3, 8, 8), random(3, 3, 8, 8, seed=1)
    alone = [fsp_distances(network, clean[[i]], adversarial[[i]]) for i in range(3)]
    torch.testing.assert_close(fsp_distances(network, clean, adversarial), torch.stack(alone).sum(0))
    stem = network.stem[0](torch.cat([clean, adversarial]))
    output = network.cells[0](stem, stem)
    first, second = fsp_matrix(stem, stem, output).detach().chunk(2)
    expected = sum(torch.linalg.matrix_norm(a - b) ** 2 for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(fsp_distances(network, clean, adversarial)[0], expected)


def test_images_that_no_attack_moved_have_no_distance() -> None:
    network = compile(space("cell_free").supernet()).eval()
    images = torch.rand(4, 3, 8, 8)
    assert fsp_distances(network, images, images).tolist() == [0.0] * 3
    assert not any(cell._forward_hooks for cell in network.cells)


def test_mask_has_the_distances_of_a_separate_network() -> None:
    supernet = compile(space("cell_free").supernet()).double().eval()
    spec = space("cell_free").genotype(["11 01 10 00 11", "01 11 01 01 10", "10 10 01 11 11"], name="a")
    alone = compile(spec).double().eval()
    alone.load_state_dict({key: supernet.state_dict()[key] for key in alone.state_dict()})
    images = random(4, 3, 8, 8), random(4, 3, 8, 8, seed=1)
    assert torch.equal(fsp_distances(subnetwork(supernet, spec), *images), fsp_distances(alone, *images))


def candidates(*distances: tuple[float, ...]) -> list[Candidate]:
    return [
        Candidate(group="a", index=index, codes=("11",), hash=str(index), fsp=each)
        for index, each in enumerate(distances)
    ]


def test_score_is_the_mean_of_the_last_cells() -> None:
    (candidate,) = candidates((100.0, 1.0, 2.0, 6.0))
    assert score(candidate, 3) == 3.0
    assert score(candidate, 10) == 109 / 4  # a network of fewer cells


def test_threshold_rejects_what_is_larger() -> None:
    # Appendix F: "we reject those architectures whose average distance is larger than a threshold", 0.006.
    given = candidates((9.0, 0.006), (0.0, 0.0061), (0.0, 0.0), ())
    assert [each.index for each in kept(given, Filter(last=1, threshold=0.006))] == [0, 2]


@pytest.mark.parametrize(("n", "keep", "expected"), [(300, 68 / 300, 68), (10, 0.25, 2), (3, 0.01, 1), (4, 1.0, 4)])
def test_share_keeps_the_lowest(n: int, keep: float, expected: int) -> None:
    values = torch.rand(n, generator=torch.Generator().manual_seed(0)).tolist()
    left = kept(candidates(*((value,) for value in values)), Filter(keep=keep))
    assert len(left) == expected
    assert max(each.fsp[0] for each in left) == sorted(values)[expected - 1]
    assert [each.index for each in left] == sorted(each.index for each in left)


def test_threshold_that_keeps_none_says_what_the_lowest_distance_is() -> None:
    distances = candidates((9.0, 0.5, 0.25), (0.0, 0.125, 0.375), (1.0, 2.0, 3.0))
    with pytest.raises(SearchError, match=r"of at most 1e-09, got none of 3, the lowest with 0\.25; `keep`"):
        kept(distances, Filter(last=2, threshold=1e-9))
