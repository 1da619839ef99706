"""Augmentation: every change it can make is one that its description allows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from robnet_zoo import data
from robnet_zoo.training.augmentation import Moves, augment, augmented, resize
from robnet_zoo.training.recipe import Augmentation


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_crops_are_of_the_padded_image_and_their_mirror_images():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) + 1
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 0]
    crops = {tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)}
    crops |= {tuple(torch.tensor(crop).reshape(4, 4).flip(1).flatten().tolist()) for crop in crops}
    changed = augment(image.repeat(500, 1, 1, 1), Augmentation(crop=1), seeded())
    assert {tuple(x.flatten().tolist()) for x in changed} == crops


def test_moves_are_what_augmentation_draws_first_and_put_pixels_back():
    raw, wanted = torch.rand(50, 3, 6, 6), Augmentation(crop=2)
    moves = Moves.draw(50, wanted, seeded())
    crops = moves.moved(raw)
    assert torch.equal(crops, augment(raw, wanted, seeded()))
    assert torch.equal(moves.put_back(crops, raw), raw)
    for image, crop, down, right, flipped in zip(raw, crops, moves.down, moves.right, moves.flipped, strict=True):
        padded, crop = F.pad(image, (2, 2, 2, 2)), crop.flip(2) if flipped else crop
        assert torch.equal(crop, padded[:, 2 + down : 8 + down, 2 + right : 8 + right])
    half = moves.scaled(0.5, 0.25)
    assert (half.down - moves.down / 2).abs().max() <= 0.5
    assert (half.right - moves.right / 4).abs().max() <= 0.5


def test_without_changes_images_stay():
    images = torch.rand(5, 3, 4, 4)
    assert torch.equal(augment(images, Augmentation(crop=0, flip=False), seeded()), images)


def test_cutout_blanks_one_square_that_edges_may_cut_off():
    cut = augment(torch.ones(400, 3, 6, 6), Augmentation(crop=0, flip=False, cutout=2), seeded())
    shapes = set()
    for image in cut:
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])
        rows, columns = torch.where(image[0] == 0)
        height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert len(rows) == height * width  # a rectangle
        shapes.add((height, width))
    assert shapes == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_small_images_are_means_of_the_pixels_that_they_stand_for():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    constant = torch.full((1, 3, 8, 8), 0.25)
    assert resize(images, 8) is images
    assert resize(images, 4).shape == (2, 3, 4, 4)
    torch.testing.assert_close(resize(constant, 4), constant[:, :, :4, :4])
    torch.testing.assert_close(resize(images, 4).mean(), images.mean(), rtol=0.05, atol=0)


@pytest.fixture
def ramp(tmp_path):
    """Save a picture of 60x40 in a folder like ImageNet's; its red gives the column and its green the row."""
    rows, columns = np.mgrid[0:40, 0:60]
    picture = np.stack([4 * columns, 6 * rows, 0 * rows], axis=-1).astype(np.uint8)
    folder = tmp_path / "train" / "only"
    folder.mkdir(parents=True)
    Image.fromarray(picture).save(folder / "ramp.png")
    return data.load(f"imagenet-train:{tmp_path}", train=True)


def test_picture_files_are_cropped_at_the_centre_without_augmentation(ramp):
    image = ramp.batch(slice(0, 1))[0][0]
    assert image.shape == (3, 224, 224)
    side = 40 * 224 / 256
    expected = 255 * image[:2].mean((1, 2))
    torch.testing.assert_close(expected, torch.tensor([4 * 29.5, 6 * 19.5]), rtol=0, atol=1)
    spread = 255 * (image[0].max() - image[0].min()) / 4
    assert spread == pytest.approx(side, abs=2)


def test_random_crops_of_picture_files_lie_inside_and_differ_in_size(ramp):
    crops = torch.stack(
        [augmented(ramp, torch.tensor([0]), Augmentation(flip=False), seeded_by(i))[0][0] for i in range(60)]
    )
    assert not crops[:, 2].any()
    assert crops[:, 0].max() <= 4 * 59 / 255 + 1e-6
    assert crops[:, 1].max() <= 6 * 39 / 255 + 1e-6
    widths = 255 * (crops[:, 0].amax((1, 2)) - crops[:, 0].amin((1, 2))) / 4
    heights = 255 * (crops[:, 1].amax((1, 2)) - crops[:, 1].amin((1, 2))) / 6
    shares = (widths + 1) * (heights + 1) / (60 * 40)
    assert shares.min() < 0.25
    assert shares.max() > 0.7
    assert torch.equal(crops[0], augmented(ramp, torch.tensor([0]), Augmentation(flip=False), seeded_by(0))[0][0])


def seeded_by(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
