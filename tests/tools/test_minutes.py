"""What trains in minutes on a machine that may vanish."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from robnet_zoo import data
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.errors import DataError
from robnet_zoo.training import TrainingResult, duration
from tools import minutes

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """Return 700 scans of digits, 2.05 MiB, as an npz."""
    images = data.digits()[0][:700]
    path = tmp_path_factory.mktemp("images") / "digits.npz"
    np.savez(path, images=images.pixels.permute(0, 2, 3, 1).numpy(), labels=images.labels.numpy())
    return path


def test_parts_are_small_and_together_the_whole(npz, tmp_path):
    minutes.split(npz, tmp_path / "parts", mebibytes=1)
    parts = sorted((tmp_path / "parts").iterdir())
    assert [path.name for path in parts] == ["1of3.npz", "2of3.npz", "3of3.npz"]
    assert all(path.stat().st_size < MEBIBYTE for path in parts)
    joined = minutes._joined(tmp_path / "parts", tmp_path / "joined.npz")
    assert data.load(str(joined)).sha256 == data.load(str(npz)).sha256
    with pytest.raises(DataError, match=r"expected an empty folder, got \dof3\.npz there"):
        minutes.split(npz, tmp_path / "parts")


def test_parts_of_small_images_have_room_for_their_labels(tmp_path):
    images, labels = np.zeros((20_000, 8, 8, 1), dtype=np.uint8), np.arange(20_000) * 7 % 10
    np.savez(tmp_path / "small.npz", images=images, labels=labels)
    minutes.split(tmp_path / "small.npz", tmp_path / "parts", mebibytes=1)
    sizes = [path.stat().st_size for path in (tmp_path / "parts").iterdir()]
    assert max(sizes) < MEBIBYTE
    assert len(sizes) == 2
    with pytest.raises(DataError, match="mebibytes: expected parts that can hold an image, got 0"):
        minutes.split(tmp_path / "small.npz", tmp_path / "others", mebibytes=0)
    assert not (tmp_path / "others").exists()


def test_a_part_that_is_missing_or_too_many_is_named(npz, tmp_path):
    minutes.split(npz, tmp_path / "parts", mebibytes=1)
    (tmp_path / "parts" / "2of3.npz").rename(tmp_path / "parts" / "other.npz")
    with pytest.raises(DataError, match=r"expected 1of3\.npz to 3of3\.npz, got 3 parts: look for 2of3\.npz"):
        minutes._joined(tmp_path / "parts", tmp_path / "joined.npz")
    (tmp_path / "parts" / "other.npz").rename(tmp_path / "parts" / "2of4.npz")
    with pytest.raises(DataError, match="expected an npz of images, or a folder of its parts"):
        minutes._joined(tmp_path / "parts", tmp_path / "joined.npz")
    assert not (tmp_path / "joined.npz").exists()


def test_an_empty_folder_has_no_parts(tmp_path):
    with pytest.raises(DataError, match="expected an npz of images, or a folder of its parts"):
        minutes._joined(tmp_path, tmp_path / "joined.npz")


def test_all_that_comes_of_the_minutes_is_in_one_folder(npz, tiny, tmp_path, monkeypatch):
    tiny.save(tmp_path / "tiny.json")
    monkeypatch.setattr(
        duration, "within_minutes", lambda spec, images, recipe, minutes, *, progress: recipe.lasting(1)
    )
    minutes.split(npz, tmp_path / "parts", mebibytes=1)
    for _ in range(2):  # the second time all is there
        minutes.train(
            str(tmp_path / "tiny.json"),
            data=tmp_path / "parts",
            test="digits",
            output=tmp_path / "out",
            recipe="micro_digits",
            protocol="quick",
            images=4,
        )
    assert len(TrainingResult.load(tmp_path / "out" / "run" / "training.json").epochs) == 1
    assert Result.load(tmp_path / "out" / "quick.json").data.n == 4
    assert (tmp_path / "out" / "run" / "README.md").exists()
    assert (tmp_path / "out" / "report.html").exists()


def test_it_trains_through_inductor_too(npz, tiny, tmp_path, monkeypatch):
    """Takes about a minute, as torch translates two graphs of one cell into C++ and has them compiled."""
    shallow = tiny.network.model_copy(update={"depth": 1, "reductions": ()})
    tiny.model_copy(update={"layout": ("cell",), "network": shallow}).save(tmp_path / "tiny.json")
    monkeypatch.setattr(
        duration, "within_minutes", lambda spec, images, recipe, minutes, *, progress: recipe.lasting(1)
    )
    torch.compiler.reset()
    losses = []
    for compile in (False, True):
        counters.clear()
        output = tmp_path / f"compiled_{compile}"
        options = {"recipe": "micro_digits", "protocol": "quick", "images": 4, "compile": compile}
        minutes.train(str(tmp_path / "tiny.json"), data=npz, test="digits", output=output, **options)
        result = TrainingResult.load(output / "run" / "training.json")
        assert result.recipe.compile == compile
        assert (counters["stats"]["unique_graphs"] > 1) == compile
        losses.append([epoch.loss for epoch in result.epochs])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # rounding turns steps of some pixels round
