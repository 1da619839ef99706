"""Images from files, folders and scikit-learn; what is wrong with them is one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from robnet_zoo import data
from robnet_zoo.data import DataError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)


@pytest.fixture
def npz(tmp_path, pixels):
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(20) % 3)
    return tmp_path / "images.npz"


def test_an_npz_gives_its_pixels_in_the_unit_range(npz, pixels):
    images, labels = data.load(npz).batch(slice(2, 5))
    np.testing.assert_allclose(images.numpy(), pixels[2:5].transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert labels.tolist() == [2, 0, 1]


def test_a_folder_of_pictures_gives_the_npz_it_was_made_from(tmp_path, npz, pixels):
    for index, picture in enumerate(pixels):
        folder = tmp_path / "pictures" / f"class_{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{index:02}.png")
    found, expected = data.load(tmp_path / "pictures"), data.load(npz)

    def pairs(images: data.Images) -> list[tuple[int, bytes]]:
        return sorted((int(y), x.numpy().tobytes()) for x, y in zip(images.pixels, images.labels, strict=True))

    assert pairs(found) == pairs(expected)
    assert data.load(tmp_path / "pictures").sha256 == found.sha256
    assert found.classes == ("class_0", "class_1", "class_2")


def test_a_folder_is_not_split_class_by_class(tmp_path):
    for index in range(60):
        (tmp_path / str(index // 20)).mkdir(exist_ok=True)
        Image.new("RGB", (2, 2), (index, 0, 0)).save(tmp_path / str(index // 20) / f"{index:02}.png")
    training, validation = data.load(tmp_path).split()
    assert set(training.labels.tolist()) == set(validation.labels.tolist()) == {0, 1, 2}


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


def test_digits_are_scikit_learns_scans_and_training_and_test_are_apart():
    training, test = data.digits()
    assert (tuple(training.pixels.shape), len(test)) == ((1297, 3, 32, 32), 500)
    assert torch.bincount(test.labels).min() > 40  # every digit is there
    assert training.pixels.max() == 255
    from sklearn.datasets import load_digits

    scan = torch.from_numpy(load_digits().images[0])
    coarse = training.pixels[0, 0].float().reshape(8, 4, 8, 4).mean((1, 3)) / 255 * 16
    assert torch.corrcoef(torch.stack([scan.flatten().float(), coarse.flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 3), np.uint8)}, "expected arrays `images` and `labels`, got images"),
        ({"images": np.zeros((4, 2, 2, 3)), "labels": np.zeros(4, int)}, "of uint8, got .* of float64"),
        ({"images": np.zeros((4, 3, 2, 2), np.uint8), "labels": np.zeros(4, int)}, r"\(N, H, W, 3\)"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.zeros(3, int)}, r"expected `labels` \(4,\)"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.zeros(4)}, "of integers"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": -np.ones(4, int)}, "of integers from 0"),
        ({"images": np.zeros((0, 2, 2, 3), np.uint8), "labels": np.zeros(0, int)}, "expected `images`"),
        ({"images": np.array([None] * 4), "labels": np.zeros(4, int)}, "cannot be read"),
    ],
)
def test_an_npz_that_is_not_labelled_images_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        data.load(tmp_path / "bad.npz")
    assert str(tmp_path / "bad.npz") in str(error.value)


def test_truncated_missing_and_foreign_files_are_refused(tmp_path, npz):
    (tmp_path / "short.npz").write_bytes(npz.read_bytes()[:200])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("short.npz", "text.npz", "empty", "nowhere.npz", "array.npy"):
        with pytest.raises(DataError, match=name):
            data.load(tmp_path / name)


def test_a_folder_with_pictures_of_two_sizes_is_refused(tmp_path):
    for name, size in (("a", 4), ("b", 5)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (size, 4)).save(tmp_path / name / "x.png")
    with pytest.raises(DataError, match=r"x\.png: expected .* pixels as in the first"):
        data.load(tmp_path)


@pytest.mark.parametrize("n", [0, 21])
def test_more_images_than_there_are_is_refused(npz, n):
    with pytest.raises(DataError, match="expected n from 1 to 20"):
        data.load(npz, n=n)


def test_images_that_do_not_fit_a_model_are_refused(npz):
    images = data.load(npz)
    data.check_fits(images, input_size=(3, 5, 4), num_classes=3)
    with pytest.raises(DataError, match=r"expected images of \(channels, height, width\) \(3, 32, 32\)"):
        data.check_fits(images, input_size=(3, 32, 32), num_classes=3)
    with pytest.raises(DataError, match="expected labels from 0 to 1, got 2"):
        data.check_fits(images, input_size=(3, 5, 4), num_classes=2)
