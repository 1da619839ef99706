"""Square in l2, the random search by windows."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from robnet_zoo.attacks import SquareL2, run

GREY = torch.full((2, 3, 32, 32), 0.5)


def queries_of(attack: SquareL2, images: Tensor, *, eps: float = 0.5) -> list[Tensor]:
    """Return what the attack asks a model whose margin grows with every query, so that each one is kept."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        score = x.flatten(1).sum(1) * 0
        return torch.stack([score + 1e6 - len(seen), score], 1)

    run(attack, model, images, torch.zeros(len(images), dtype=torch.long), eps=eps, slots=len(images))
    return seen[1 : 1 + attack.queries]


def test_every_query_uses_up_the_ball():
    queries = torch.stack(queries_of(SquareL2(queries=60), GREY))
    torch.testing.assert_close((queries - GREY).flatten(2).norm(dim=2), torch.full((60, 2), 0.5))


def test_the_first_query_is_five_tiles_a_side_with_a_frame_around():
    # 32 pixels hold five tiles of 6 and a frame of 1; each tile has a bump and a dent.
    delta = queries_of(SquareL2(queries=2), GREY)[0] - GREY
    assert bool((delta[:, :, 1:31, 1:31] != 0).all())
    frame = delta.clone()
    frame[:, :, 1:31, 1:31] = 0
    assert not bool(frame.any())
    tiles = delta[:, :, 1:31, 1:31].unfold(2, 6, 6).unfold(3, 6, 6)  # (2, 3, 5, 5, 6, 6)
    assert bool((tiles.flatten(4).amax(4) > 0).all())
    assert bool((tiles.flatten(4).amin(4) < 0).all())
    assert not torch.equal(delta[0], delta[1])


def test_a_query_moves_the_mass_of_a_window_into_another():
    queries = queries_of(SquareL2(queries=40), GREY[:1])
    emptied = 0
    for before, after in pairwise(queries):
        old, new = before - GREY[:1], after - GREY[:1]
        gone = (old != 0) & (new == 0)
        emptied += bool(gone.any())
        assert bool(((new != 0) | gone | (old == 0)).all())
    assert emptied > 20


def test_windows_are_odd_and_shrink_to_three_pixels():
    attack = SquareL2(queries=10_000)
    sides = [attack._side(t, 32, 32) for t in range(0, 10_000, 7)]
    assert sides == sorted(sides, reverse=True)
    assert {side % 2 for side in sides} == {1}
    assert (sides[0], sides[-1]) == (29, 3)  # the root of 0.8 * 1024 is 28.6
    assert attack._side(0, 2, 2) == 2


def test_images_smaller_than_five_pixels_and_of_other_shapes_are_taken():
    for shape in ((1, 1, 2, 2), (1, 3, 4, 4), (1, 3, 14, 9), (1, 2, 5, 7)):
        images = torch.full(shape, 0.5)
        queries = torch.stack(queries_of(SquareL2(queries=8), images, eps=0.1))
        torch.testing.assert_close((queries - images).flatten(2).norm(dim=2), torch.full((8, 1), 0.1))
