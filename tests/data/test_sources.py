"""Images from files, folders and scikit-learn; what is wrong with them is one line."""

import contextlib
import hashlib
import io
import os
import pickle
import shutil
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from robnet_zoo import data
from robnet_zoo.data import sources
from robnet_zoo.errors import DataError


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
    loaded, expected = data.load(tmp_path / "pictures"), data.load(npz)

    def pairs(images: data.Images) -> list[tuple[int, bytes]]:
        return sorted((int(y), x.numpy().tobytes()) for x, y in zip(images.pixels, images.labels, strict=True))

    assert pairs(loaded) == pairs(expected)
    assert data.load(tmp_path / "pictures").sha256 == loaded.sha256
    assert loaded.classes == ("class_0", "class_1", "class_2")


def test_a_folder_is_not_split_class_by_class(tmp_path):
    for index in range(60):
        (tmp_path / str(index // 20)).mkdir(exist_ok=True)
        Image.new("RGB", (2, 2), (index, 0, 0)).save(tmp_path / str(index // 20) / f"{index:02}.png")
    training, validation = data.load(tmp_path).split()
    assert set(training.labels.tolist()) == set(validation.labels.tolist()) == {0, 1, 2}


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
        ({"images": np.zeros((4, 2, 2, 3)), "labels": np.zeros(4, int)}, "of uint8, got .* of float64; .* 255"),
        (
            {"images": np.full((4, 3, 2, 2), 7.0), "labels": np.zeros(4, int)},
            r"images.round.*np.uint8.*tran",
        ),
        ({"images": np.full((4, 2, 2, 3), np.nan), "labels": np.zeros(4, int)}, "float64, not all of them finite"),
        ({"images": np.full((4, 2, 2, 3), -2.0), "labels": np.zeros(4, int)}, "from -2 to -2; take the pixels before"),
        ({"images": np.zeros((4, 3, 2, 2), np.uint8), "labels": np.zeros(4, int)}, r"images.transpose\(0, 2, 3, 1\)"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.zeros(3, int)}, r"expected `labels` \(4,\)"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.zeros(4)}, "of integers"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": -np.ones(4, int)}, "of integers from 0"),
        ({"images": np.zeros((0, 2, 2, 3), np.uint8), "labels": np.zeros(0, int)}, "expected `images`"),
        ({"images": np.zeros((4, 0, 2, 3), np.uint8), "labels": np.zeros(4, int)}, r"with pixels, .*\(4, 0"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.array([0, 1, 2, 10**12])}, "0 to 999999, got 10"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.full(4, 2**64 - 1, np.uint64)}, "0 to 999999"),
        ({"images": np.zeros((4, 2, 2, 3), np.uint8), "labels": np.zeros(4, "m8[s]")}, "of integers"),
        ({"images": np.array([None] * 4), "labels": np.zeros(4, int)}, "cannot be read"),
    ],
)
def test_an_npz_that_is_not_labelled_images_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        data.load(tmp_path / "bad.npz")
    assert str(tmp_path / "bad.npz") in str(error.value)


def header(shape: tuple[int, ...], descr: str) -> bytes:
    """Return what a .npy of this shape and type begins with."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (header((10**6, 1000, 1000, 3), "|u1"), header((10**6,), "<i8"), "`images` of 3,000,000,000,[0-9]* bytes"),
        (header((10**13, 1, 1, 3), "|u1"), header((10**13,), "<i8"), "`images` of 30,000,"),
        (header((1, 1, 1, 3), "|u1") + b"rgb", header((10**12,), "<i8"), "`labels` of 8,000,000,000,"),
        (header((-4, 2, 2, 3), "|u1"), header((4,), "<i8"), "`images` of a size from 0 on, got [(]-4, 2, 2, 3[)]"),
        (b"\x93NUMPY\x01\x00" + (5000).to_bytes(2, "little") + b"(" * 5000, b"", "cannot be read"),
    ],
)
def test_an_npz_whose_header_claims_more_than_it_holds_is_refused_at_once(tmp_path, images, labels, message):
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", labels)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "claims.npz")


def test_truncated_missing_and_foreign_files_are_refused(tmp_path, npz):
    (tmp_path / "short.npz").write_bytes(npz.read_bytes()[:200])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("short.npz", "text.npz", "empty", "nowhere.npz", "array.npy"):
        with pytest.raises(DataError, match=name):
            data.load(tmp_path / name)


@pytest.fixture
def two_classes(tmp_path) -> Path:
    """Write a folder with a picture of each of the classes a and b."""
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / name / "x.png")
    return tmp_path / "set"


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".hidden", "__MACOSX", "@eaDir"])
def test_hidden_and_tools_folders_are_not_classes(two_classes, caplog, name):
    shutil.copytree(two_classes / "a", two_classes / name)
    images = data.load(two_classes)
    assert images.classes == ("a", "b")
    assert sorted(images.labels.tolist()) == [0, 1]
    assert f"set: passed over {name}, as only .png" in caplog.text


@pytest.mark.parametrize("source", ["{}", "pictures-4:{}"])
def test_whatever_lies_beside_pictures_is_mentioned_and_never_waited_for(two_classes, caplog, source):
    (two_classes / "labels.csv").touch()
    (two_classes / "a" / "._x.png").write_text("a resource fork of macOS")
    (two_classes / "a" / "x.tif").touch()
    (two_classes / "b" / "deeper.png").mkdir()
    os.mkfifo(two_classes / "b" / "pipe.png")
    (two_classes / "b" / "gone.png").symlink_to("nowhere")
    (two_classes / "b" / "loop.png").symlink_to("loop.png")
    (two_classes / "b" / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as waiting, contextlib.chdir(two_classes / "b"):  # the path is too long
        waiting.bind("socket.png")
    assert len(data.load(source.format(two_classes))) == 2
    assert "passed over labels.csv, a/._x.png, a/x.tif and 6 more, as only .png, .jpg" in caplog.text


def test_a_listing_that_names_a_pipe_does_not_wait_for_it(tiny_imagenet):
    picture = tiny_imagenet / "val" / "images" / "val_0.JPEG"
    picture.unlink()
    os.mkfifo(picture)
    with pytest.raises(DataError, match=r"val_0\.JPEG: expected the file of a picture, got none there"):
        data.load(f"tiny-imagenet-val:{tiny_imagenet}")
    (tiny_imagenet / "wnids.txt").unlink()
    os.mkfifo(tiny_imagenet / "wnids.txt")
    with pytest.raises(DataError, match=r"wnids\.txt: expected a text file of the data set, got none there"):
        data.load(f"tiny-imagenet-val:{tiny_imagenet}")


def test_a_file_name_that_is_not_utf_8_is_read_and_hashed(two_classes):
    strange = os.fsdecode(os.fsencode(two_classes / "a") + b"/\xff.png")
    shutil.copy(two_classes / "a" / "x.png", strange)
    images = data.load(f"pictures-4:{two_classes}")
    assert len(images) == 3
    assert len(images.sha256) == 64


def test_a_class_whose_name_is_not_utf_8_can_be_printed_and_written(two_classes):
    shutil.copytree(two_classes / "a", os.fsdecode(os.fsencode(two_classes) + b"/\xff"))
    images = data.load(f"pictures-4:{two_classes}")
    assert [name.encode().decode() for name in images.classes] == list(images.classes)
    assert len(set(images.classes)) == 3


def test_a_data_set_whose_name_lies_here_too_is_taken_with_a_word_on_how_to_get_the_other(two_classes, caplog):
    with contextlib.chdir(two_classes.parent):
        two_classes.rename("digits")
        assert data.load("digits").name == "scikit-learn digits, last 500"
        assert "digits: took the data set of this name, not what lies here: ./digits is that" in caplog.text
        assert data.load("./digits").classes == ("a", "b")


def test_a_name_of_nothing_is_refused_in_a_short_line():
    with pytest.raises(DataError) as error:
        data.load("nope.npz")
    expected = "expected an .npz, a folder of class folders or a known data set"
    assert str(error.value) == f"nope.npz: {expected}, got nothing there"
    with pytest.raises(DataError, match=r"got nothing there, did you mean 'cifar10-test'\?"):
        data.load("cifar10-tst:data")


def test_a_folder_with_pictures_of_two_sizes_is_refused(tmp_path):
    for name, size in (("a", 4), ("b", 5)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (size, 4)).save(tmp_path / name / "x.png")
    with pytest.raises(DataError, match=r"x\.png: expected .* pixels as in the first.*use pictures-SIDE:"):
        data.load(tmp_path)


def test_pictures_of_any_sizes_are_read_at_the_size_that_is_asked_for(tmp_path):
    for name, size in (("a", (40, 90)), ("b", (30, 20))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size, (0, 255 if name == "b" else 0, 0)).save(tmp_path / name / "x.png")
    images = data.load(f"pictures-16:{tmp_path}", train=True)
    assert (len(images), images.shape, images.classes) == (2, (3, 16, 16), ("a", "b"))
    pixels, labels = images.batch(torch.arange(2))
    assert pixels[:, 1].mean((1, 2)).tolist() == labels.tolist()
    with pytest.raises(DataError, match=r"pictures-0:.*expected at least 1 pixel a side"):
        data.load(f"pictures-0:{tmp_path}")
    with pytest.raises(DataError, match="nowhere: expected a folder of pictures for each class"):
        data.load("pictures-16:nowhere")


def test_the_first_images_of_a_set_that_is_sorted_by_class_are_refused(tmp_path):
    np.savez(tmp_path / "sorted.npz", images=np.zeros((100, 2, 2, 3), np.uint8), labels=np.arange(100) // 10)
    assert len(data.load(tmp_path / "sorted.npz", n=100)) == 100
    with pytest.raises(DataError, match="expected the first 20 images to be a random sample of all, got 10 of class"):
        data.load(tmp_path / "sorted.npz", n=20)


@pytest.mark.parametrize("n", [0, 21, 2.9, True])
def test_more_images_than_there_are_is_refused(npz, n):
    with pytest.raises(DataError, match="expected n from 1 to 20"):
        data.load(npz, n=n)


# Known data sets, each as a tiny copy of its real layout


def pickled(path: Path, content: dict) -> str:
    """Write a pickle as CIFAR's files are, and give its md5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Write CIFAR-10 and CIFAR-100 of 20 + 10 images, with the checksums that torchvision wants to see."""
    dice = np.random.default_rng(0)
    made = {}
    for kind, key, files, meta in (
        (datasets.CIFAR10, "labels", ("data_batch_1", "data_batch_2", "test_batch"), "batches.meta"),
        (datasets.CIFAR100, "fine_labels", ("train", "test"), "meta"),
    ):
        lists = {"train_list": [], "test_list": []}
        for name in files:
            count = 10 if "test" in name or kind is datasets.CIFAR10 else 20
            rows = dice.integers(0, 256, (count, 3072), dtype=np.uint8)
            labels = [int(label) for label in dice.integers(0, 10, count)]
            content = {"data": rows, key: labels}
            digest = pickled(tmp_path / kind.base_folder / name, content)
            lists["test_list" if "test" in name else "train_list"].append([name, digest])
            made[kind.__name__, name] = (rows, labels)
        names = {"label_names": list("abcdefghij"), "fine_label_names": list("abcdefghij")}
        digest = pickled(tmp_path / kind.base_folder / meta, names)
        monkeypatch.setattr(kind, "meta", kind.meta | {"filename": meta, "md5": digest})
        for name, value in lists.items():
            monkeypatch.setattr(kind, name, value)
    return tmp_path, made


@pytest.mark.parametrize(
    ("source", "kind", "files"),
    [
        ("cifar10-train", "CIFAR10", ("data_batch_1", "data_batch_2")),
        ("cifar10-test", "CIFAR10", ("test_batch",)),
        ("cifar100-train", "CIFAR100", ("train",)),
        ("cifar100-test", "CIFAR100", ("test",)),
    ],
)
def test_cifar_gives_the_pixels_of_its_files_in_order(cifar, source, kind, files):
    folder, made = cifar
    wanted = {*files, "batches.meta", "meta"}
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in wanted:
            file.unlink()  # nothing of the other part is opened
    images = data.load(f"{source}:{folder}")
    rows = np.concatenate([made[kind, name][0] for name in files])
    assert torch.equal(images.pixels, torch.from_numpy(rows.reshape(-1, 3, 32, 32)))
    assert images.labels.tolist() == [label for name in files for label in made[kind, name][1]]
    assert images.classes == tuple("abcdefghij")


def test_a_truncated_file_of_a_known_data_set_is_refused(cifar, monkeypatch):
    folder, _ = cifar
    file = next(folder.rglob("data_batch_1"))
    file.write_bytes(file.read_bytes()[:-100])

    def no_network(self):
        assert not self._check_integrity()
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    expected = "as torchvision keeps it, whole and undamaged, or a network to fetch it, got no network; images of"
    with pytest.raises(DataError, match=expected):
        data.load(f"cifar10-train:{folder}")


@pytest.mark.parametrize("part", ["train", "test"])
def test_svhn_gives_its_pixels_and_calls_the_digit_0_class_0(tmp_path, monkeypatch, part):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    path = tmp_path / f"{part}_32x32.mat"
    scipy.io.savemat(path, {"X": pixels, "y": np.arange(1, 13)[:, None] % 11})
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(datasets.SVHN.split_list, part, ["", path.name, digest])
    images = data.load(f"svhn-{part}:{tmp_path}")
    assert torch.equal(images.pixels, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))
    assert images.labels.tolist() == [label % 11 % 10 for label in range(1, 13)]


def test_one_at_a_time_fetches_into_a_folder(tmp_path):
    at_work, seen = [], []

    def fetch():
        at_work.append(1)
        seen.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sources._fetched(fetch, tmp_path / "new", "images"), range(4)))
    assert seen == [1, 1, 1, 1]


def test_folder_that_cannot_be_written_to_is_still_read(tmp_path):
    (tmp_path / "file").touch()  # stands for a read-only folder: nothing can be made in it
    assert sources._fetched(lambda: "images", tmp_path / "file" / "data", "images") == "images"


@pytest.fixture
def tiny_imagenet(tmp_path):
    """Write two classes in the layout of tiny-imagenet-200; the red of a picture encodes its class."""
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    lines = []
    for label, name in enumerate(("n01", "n02")):
        folder = tmp_path / "train" / name / "images"
        folder.mkdir(parents=True)
        (tmp_path / "val" / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("")
        for index in range(10):
            Image.new("RGB", (64, 64), (200 * label, index, 0)).save(folder / f"{name}_{index}.JPEG", quality=100)
        Image.new("RGB", (64, 64), (200 * label, 0, 0)).save(tmp_path / "val" / "images" / f"val_{label}.JPEG")
        lines.append(f"val_{label}.JPEG\t{name}\t0\t0\t62\t62\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize(("part", "count", "other"), [("train", 20, "val"), ("val", 2, "train")])
def test_tiny_imagenet_gives_each_picture_its_class(tiny_imagenet, part, count, other):
    shutil.rmtree(tiny_imagenet / other)  # nothing of the other part is opened
    images = data.load(f"tiny-imagenet-{part}:{tiny_imagenet}")
    assert images.shape == (3, 64, 64)
    assert len(images) == count
    assert ((images.pixels[:, 0].float().mean((1, 2)) > 100).long() == images.labels).all()
    assert images.classes == ("n01", "n02")


def test_tiny_imagenets_pictures_of_another_size_and_class_are_refused(tiny_imagenet):
    listing = tiny_imagenet / "val" / "val_annotations.txt"
    listing.write_text(listing.read_text().replace("n01", "n99"))
    with pytest.raises(DataError, match=r"val_annotations\.txt: expected lines of file, tab, class"):
        data.load(f"tiny-imagenet-val:{tiny_imagenet}")
    Image.new("RGB", (64, 63)).save(tiny_imagenet / "train" / "n01" / "images" / "n01_0.JPEG")
    with pytest.raises(DataError, match=r"n01_0\.JPEG: expected 64x64 pixels, got 63x64"):
        data.load(f"tiny-imagenet-train:{tiny_imagenet}")


def test_a_class_that_tiny_imagenets_training_part_lacks_is_named(tiny_imagenet):
    (tiny_imagenet / "wnids.txt").write_text("n02\nn01\nn03\n")
    expected = r"a folder for each of the 3 classes of wnids\.txt, got 2; n03 is in only one of the two"
    with pytest.raises(DataError, match=expected):
        data.load(f"tiny-imagenet-train:{tiny_imagenet}", train=True)


def test_a_class_without_pictures_and_a_missing_part_are_refused(tmp_path):
    with pytest.raises(DataError, match="train: expected a folder of pictures for each class"):
        data.load(f"imagenet-train:{tmp_path}", train=True)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "a" / "x.png")
    (tmp_path / "train" / "b" / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="expected pictures of the class b, got none"):
        data.load(f"imagenet-train:{tmp_path}", train=True)


@pytest.mark.parametrize("source", ["cifar10-test", "cifar100-test", "svhn-test", "tiny-imagenet-val", "imagenet-val"])
def test_test_images_are_refused_where_training_images_are_asked_for(source, tmp_path):
    name = source.rpartition("-")[0]
    with pytest.raises(DataError, match=f"expected images to train on, {name}-train:..., got others"):
        data.load(f"{source}:{tmp_path}", train=True)
