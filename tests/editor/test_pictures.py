"""Images that the page sends: archives, pictures of any size, and what is neither."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robnet_zoo import data
from robnet_zoo.benchmarks import of_module
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.editor.pictures import DIGITS, SHOWN, THUMBNAIL, Pictures, Upload, as_bytes
from robnet_zoo.errors import DataError, EditorError
from tests.small_networks import SEPARABLE, genotype, network_of


def picture(width: int, height: int, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", **options)
    return buffer.getvalue()


def archive(count: int = 4, side: int = 8) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, images=pixels, labels=np.arange(count) % 5)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def target() -> Target:
    """Return a classifier of 3x8x8 images into five classes."""
    return of_module(network_of(genotype({"a": SEPARABLE}, "aa")).float(), name="small")


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


def test_the_digits_are_offered_with_their_labels(pictures):
    thumbnails = pictures.thumbnails(DIGITS)
    labels = data.digits()[1].labels[:SHOWN].tolist()
    assert [each["label"] for each in thumbnails] == [str(label) for label in labels]
    first = Image.open(io.BytesIO(base64.b64decode(str(thumbnails[0]["png"]).partition(",")[2])))
    assert np.array_equal(np.asarray(first), data.digits()[1].pixels[0].permute(1, 2, 0).numpy())


def test_an_image_of_an_archive_comes_as_it_is_with_its_label(pictures, target):
    key = pictures.add(Upload("mine.npz", archive()))
    image, label = pictures.chosen(key, 3, target)
    with np.load(io.BytesIO(archive())) as arrays:
        assert torch.equal(image[0], torch.from_numpy(arrays["images"][3]).permute(2, 0, 1) / 255)
    assert label == 3


def test_a_picture_of_the_models_size_is_taken_pixel_by_pixel_and_has_no_label(pictures, target):
    key = pictures.add(Upload("mine.png", picture(8, 8)))
    image, label = pictures.chosen(key, 0, target)
    expected = torch.from_numpy(np.array(Image.open(io.BytesIO(picture(8, 8))))).permute(2, 0, 1) / 255
    assert torch.equal(image[0], expected)
    assert label is None
    assert [each["label"] for each in pictures.thumbnails(key)] == [None]


@pytest.mark.parametrize("size", [(300, 200), (3, 5), (8, 9)])
def test_a_picture_of_another_size_is_brought_to_the_models(pictures, target, size):
    key = pictures.add(Upload("mine.png", picture(*size)))
    image, _ = pictures.chosen(key, 0, target)
    assert image.shape == (1, 3, 8, 8)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_a_grey_model_gets_a_picture_in_grey(pictures):
    grey = of_module(network_of(genotype({"a": SEPARABLE}, "aa", input_size=[1, 8, 8])).float(), name="grey")
    key = pictures.add(Upload("mine.png", picture(8, 8)))
    assert pictures.chosen(key, 0, grey)[0].shape == (1, 1, 8, 8)


def test_thumbnails_of_large_images_are_small(pictures):
    key = pictures.add(Upload("large.npz", archive(count=2, side=400)))
    for each in pictures.thumbnails(key):
        assert max(Image.open(io.BytesIO(base64.b64decode(str(each["png"]).partition(",")[2]))).size) <= THUMBNAIL + 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.png", b""),
        ("mine.png", b"not a picture"),
        ("mine.npz", b"PK\x03\x04 not an archive"),
        ("../../etc/passwd", picture(8, 8)[:60]),
        ("a/b\0c.png", b"\x89PNG"),
        ("x" * 5000, b"GIF89a"),
    ],
)
def test_what_is_neither_is_an_error_of_a_line_that_names_the_file_alone(pictures, name, content):
    with pytest.raises(DataError) as error:
        pictures.add(Upload(name, content))
    assert str(error.value).isprintable()
    assert "/tmp" not in str(error.value)


@pytest.mark.parametrize("name", ["", "..", "a/..", "名" * 200 + ".png", ".png", "\0"])
def test_a_picture_of_any_name_is_taken(pictures, target, name):
    key = pictures.add(Upload(name, picture(8, 8)))
    assert pictures.chosen(key, 0, target)[0].shape == (1, 3, 8, 8)


def test_images_that_do_not_fit_the_model_are_refused(pictures, target):
    key = pictures.add(Upload("large.npz", archive(side=16)))
    with pytest.raises(DataError, match=r"large\.npz: expected images of \(channels, height, width\) \(3, 8, 8\)"):
        pictures.chosen(key, 0, target)


def test_unknown_pictures_and_numbers_are_refused(pictures, target):
    with pytest.raises(EditorError, match="open the file again"):
        pictures.chosen("0" * 64, 0, target)
    key = pictures.add(Upload("mine.npz", archive()))
    with pytest.raises(EditorError, match="from 0 to 3, got 4"):
        pictures.chosen(key, 4, target)


def test_an_image_of_one_channel_is_shown_in_grey():
    shown = as_bytes(torch.tensor([[[0.0, 1.0]]]))
    assert shown.tolist() == [[[0, 0, 0], [255, 255, 255]]]
