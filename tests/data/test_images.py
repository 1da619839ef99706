"""Labelled images: their split, their hash, their checks."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from robnet_zoo import data
from robnet_zoo.errors import DataError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)


@pytest.fixture
def npz(tmp_path, pixels):
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(20) % 3)
    return tmp_path / "images.npz"


def test_the_last_tenth_is_validation_and_nothing_is_in_both(npz):
    training, validation = data.load(npz).split()
    whole = data.load(npz)
    assert (len(training), len(validation)) == (18, 2)
    assert torch.equal(torch.cat([training.pixels, validation.pixels]), whole.pixels)


def test_the_hash_depends_on_pixels_and_labels_not_on_the_file(npz, tmp_path, pixels):
    np.savez_compressed(tmp_path / "again.npz", labels=(np.arange(20) % 3).astype(np.int32), images=pixels)
    np.savez(tmp_path / "other.npz", images=pixels, labels=(np.arange(20) + 1) % 3)
    first = data.load(npz).sha256
    assert data.load(tmp_path / "again.npz").sha256 == first
    assert data.load(tmp_path / "other.npz").sha256 != first
    assert data.load(npz, n=19).sha256 != first


def test_resized_images_are_those_of_pillow():
    """Compare with Pillow, whose bilinear resampling is antialiased too; both round to bytes."""
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = data.Images(pixels, torch.tensor([0, 1, 2]), "noise")
    small_images = data.resized(images, 16)
    for small, large in zip(small_images.pixels, pixels, strict=True):
        picture = Image.fromarray(large.permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        assert (small.int() - expected.int()).abs().max() <= 1
    assert (small_images.shape, small_images.name) == ((3, 16, 16), "noise at 16 pixels")
    assert torch.equal(small_images.labels, images.labels)
    assert data.resized(images, 32) is images
    tall = data.Images(pixels[..., :16], torch.tensor([0, 1, 2]), "noise")
    assert data.resized(tall, 16).shape == (3, 16, 16)


def test_images_that_do_not_fit_a_model_are_refused(npz):
    images = data.load(npz)
    data.check_fits(images, input_size=(3, 5, 4), num_classes=3)
    with pytest.raises(DataError, match=r"expected images of \(channels, height, width\) \(3, 32, 32\)"):
        data.check_fits(images, input_size=(3, 32, 32), num_classes=3)
    with pytest.raises(DataError, match=r"got \(3, 5, 4\); images.mean\(3, keepdims=True\)"):
        data.check_fits(images, input_size=(1, 5, 4), num_classes=3)
    with pytest.raises(DataError, match="expected labels from 0 to 1, got 0 to 2"):
        data.check_fits(images, input_size=(3, 5, 4), num_classes=2)


@pytest.mark.parametrize(("n", "refused"), [(400, True), (40, False)])  # of 40 images a class may have none by chance
def test_a_class_without_images_is_refused_where_chance_is_not_a_reason(n, refused):
    pixels, labels = torch.zeros(n, 3, 2, 2, dtype=torch.uint8), torch.arange(n) % 9 + 1
    images = data.Images(pixels, labels, "shifted")
    with pytest.raises(DataError, match="got none of 0 among 400") if refused else nullcontext():
        data.check_labels(images)


SORTED = {"ten classes": (100, 10), "two": (600, 2), "one in ten": (1000, 10), "many of few images": (500, 100)}


def labelled(labels: torch.Tensor) -> data.Images:
    return data.Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(labels), 3, 2, 2), labels, "some.npz")


@pytest.mark.parametrize(("n", "classes"), SORTED.values(), ids=SORTED.keys())
def test_a_tenth_of_a_set_that_is_sorted_by_class_is_not_a_sample(n, classes):
    ordered = torch.arange(n) * classes // n
    for labels in (ordered, ordered.flip(0)):
        training, held_out = labelled(labels).split()
        with pytest.raises(
            DataError, match=r"^some.npz: expected the tenth to be .* Put images and labels into one ran"
        ):
            data.check_sample(held_out, training, called="the tenth")
    for shuffled in (torch.arange(n) % classes, ordered[torch.randperm(n, generator=torch.Generator().manual_seed(0))]):
        training, held_out = labelled(shuffled).split()
        data.check_sample(held_out, training, called="the tenth")


@pytest.mark.parametrize("classes", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("n", [10, 40, 1000])
def test_a_random_tenth_is_a_sample_of_any_set(n, classes):
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        skewed = torch.rand(classes, generator=draw) ** 4  # some classes are frequent, others rare
        labels = torch.multinomial(skewed, n, replacement=True, generator=draw)
        training, held_out = labelled(labels).split()
        data.check_sample(held_out, training, called="the tenth")


def test_a_part_that_is_not_a_sample_names_the_class_that_is_too_many():
    labels = torch.arange(1000) % 10
    labels[-80:] = 3  # images of one class, appended
    images = replace(labelled(labels), classes=tuple("abcdefghij"))
    training, held_out = images.split()
    with pytest.raises(DataError, match=r"got 82 of class 3 \(d\) among these 100 and 90 among the other 900"):
        data.check_sample(held_out, training, called="the tenth")


def test_a_slight_shift_of_a_large_set_is_taken_as_it_is():
    labels = torch.arange(500_000) % 2
    labels[-50_000:-47_500] = 0  # 52.5 % instead of 50 %
    training, held_out = labelled(labels).split()
    data.check_sample(held_out, training, called="the tenth")


def test_a_stray_label_is_refused_where_chance_is_not_a_reason_for_all_the_classes_below_it():
    labels = torch.arange(50_000) % 10
    labels[123] = 10_000
    images = data.Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(50_000, 3, 2, 2), labels, "stray")
    with pytest.raises(DataError, match="0 to 10000, got none of 10 and 9,989 others among 50,000"):
        data.check_labels(images)
