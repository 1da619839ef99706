"""Picture files as pixels, decoded when they are wanted."""

import numpy as np
import pytest
from PIL import Image

from robnet_zoo import data
from robnet_zoo.errors import DataError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)


def test_a_truncated_picture_is_refused_by_name(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "x.png").write_bytes((tmp_path / "a" / "x.png").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"x\.png: expected a picture that can be read"):
        data.load(tmp_path)


def test_picture_files_split_and_index_like_pixels_in_memory(tmp_path):
    for index in range(20):
        folder = tmp_path / "val" / f"{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (10 * index, 0, 0)).save(folder / f"{index:02}.png")
    images = data.load(f"imagenet-val:{tmp_path}")
    training, validation = images.split()
    assert (len(training), len(validation), images.shape) == (18, 2, (3, 224, 224))
    reds = [int(pixels[0].float().mean()) for pixels in images.pixels]
    assert sorted(reds) == [10 * index for index in range(20)]
    assert [red // 10 % 2 for red in reds] == images.labels.tolist()
    assert (255 * validation.batch(slice(None))[0][:, 0].mean((1, 2))).round().int().tolist() == reds[18:]
    before = images.sha256
    Image.new("RGB", (30, 20), (1, 2, 3)).resize((90, 60)).save(tmp_path / "val" / "0" / "00.png")
    assert data.load(f"imagenet-val:{tmp_path}").sha256 != before
