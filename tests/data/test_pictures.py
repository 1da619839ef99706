"""Picture files as pixels, decoded when they are wanted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robnet_zoo import data
from robnet_zoo.data.pictures import decode
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


GREY = np.arange(0, 256, 17, dtype=np.uint16).reshape(4, 4)  # 0 to 255 in 16 steps
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
RGB = Image.fromarray(COLOURS)
PALETTE = RGB.convert("P")
STEPS = np.repeat(GREY[..., None], 3, axis=2).astype(np.uint8)
CMYK = Image.fromarray(np.concatenate([255 - COLOURS, np.zeros((4, 4, 1), np.uint8)], axis=2), "CMYK")


def write_ppm(file: Path, pixels: np.ndarray, *, largest: int) -> None:
    file.write_bytes(b"P5 4 4 %d\n" % largest + pixels.astype(">u2").tobytes())


# Each writes a picture that shows STEPS or COLOURS; the contents decide, whatever the file's ending.
READABLE = {
    "1": (lambda file: Image.fromarray(STEPS[..., 0]).point(lambda x: x > 127, "1").save(file), 255 * (STEPS > 127)),
    "L": (lambda file: Image.fromarray(STEPS[..., 0]).save(file), STEPS),
    "LA": (lambda file: Image.fromarray(STEPS[..., 0]).convert("LA").save(file), STEPS),
    "I;16": (lambda file: Image.fromarray(GREY * 257).save(file), STEPS),
    "I;16B": (lambda file: Image.fromarray((GREY * 257).astype(">u2")).save(file, format="TIFF"), STEPS),
    "I of PPM": (lambda file: write_ppm(file, GREY * 257, largest=65535), STEPS),
    "10 bits of PPM": (lambda file: write_ppm(file, (GREY.astype(float) * 1023 / 255).round(), largest=1023), STEPS),
    "P": (lambda file: PALETTE.save(file), np.asarray(PALETTE.convert("RGB"))),
    "P with an unused transparent colour": (
        lambda file: PALETTE.save(file, transparency=bytes([255] * 255 + [0])),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "RGB": (lambda file: RGB.save(file), COLOURS),
    "RGBA": (lambda file: RGB.convert("RGBA").save(file), COLOURS),
    "PA": (lambda file: RGB.convert("PA").save(file, format="TIFF"), np.asarray(PALETTE.convert("RGB"))),
    "CMYK": (lambda file: CMYK.save(file, format="TIFF"), COLOURS),
    "a photo with a preview": (
        lambda file: RGB.save(file, format="MPO", save_all=True, append_images=[RGB.rotate(90)], quality=100),
        None,
    ),
}


@pytest.mark.parametrize("kind", READABLE)
def test_every_mode_of_pillow_is_read_at_its_value(tmp_path, kind):
    write, expected = READABLE[kind]
    write(tmp_path / "x.png")
    pixels = np.asarray(decode(tmp_path / "x.png"))
    assert pixels.shape == (4, 4, 3)
    if expected is not None:
        assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("write", "got"),
    [
        (lambda file: Image.fromarray(GREY.astype(np.int32)).save(file, format="TIFF"), "got 32-bit integers"),
        (lambda file: Image.fromarray(GREY / np.float32(255)).save(file, format="TIFF"), "got floating-point numbers"),
        (lambda file: RGB.save(file, save_all=True, append_images=[RGB.rotate(90)]), "got an animation of 2 frames"),
        (
            lambda file: RGB.save(file, format="WEBP", save_all=True, append_images=[RGB.rotate(90)]),
            "got an animation of 2 frames",
        ),
        (
            lambda file: RGB.save(file, format="GIF", save_all=True, append_images=[RGB.rotate(90)]),
            "got an animation of 2 frames",
        ),
        (lambda file: Image.new("RGBA", (4, 4), (9, 9, 9, 254)).save(file), "got transparent pixels"),
        (lambda file: Image.new("LA", (4, 4), (9, 0)).save(file), "got transparent pixels"),
        (lambda file: PALETTE.save(file, transparency=PALETTE.getpixel((0, 0))), "got transparent pixels"),
        (lambda file: Image.fromarray(STEPS[..., 0]).save(file, transparency=17), "got transparent pixels"),
        (lambda file: Image.fromarray(GREY * 257).save(file, transparency=257 * 17), "got transparent pixels"),
    ],
)
def test_a_picture_whose_pixels_have_no_single_value_in_8_bits_is_refused(tmp_path, write, got):
    write(tmp_path / "x.png")
    with pytest.raises(DataError, match=rf"x\.png: expected .*{got}"):
        decode(tmp_path / "x.png")


def test_a_file_that_pillow_would_hand_to_ghostscript_is_refused(tmp_path):
    RGB.save(tmp_path / "x.png", format="EPS")
    with pytest.raises(DataError, match=r"x\.png: expected a picture that can be read"):
        decode(tmp_path / "x.png")


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
    mask = torch.arange(20) % 3 == 0
    assert torch.equal(images.pixels[mask], images.pixels[mask.nonzero()[:, 0]])
    assert torch.equal(images.pixels[torch.tensor([-1])], images.pixels[torch.tensor([19])])
    assert images.pixels[~(mask | ~mask)].shape == (0, 3, 224, 224)
    before = images.sha256
    Image.new("RGB", (30, 20), (1, 2, 3)).resize((90, 60)).save(tmp_path / "val" / "0" / "00.png")
    assert data.load(f"imagenet-val:{tmp_path}").sha256 != before


@pytest.mark.parametrize("row", [0, 50, 99])
def test_the_digest_tells_files_of_one_size_apart(tmp_path, row):
    hashes = []
    for red in (1, 2):
        folder = tmp_path / str(red) / "val" / "0"
        folder.mkdir(parents=True)
        colours = np.zeros((100, 100, 3), np.uint8)
        colours[row, :, 0] = red
        Image.fromarray(colours).save(folder / "a.bmp")  # not compressed: 30 kB
        hashes.append(data.load(f"imagenet-val:{tmp_path / str(red)}").sha256)
    assert hashes[0] != hashes[1]


def test_a_picture_that_vanishes_is_one_line(tmp_path):
    folder = tmp_path / "val" / "0"
    folder.mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "a.png")
    images = data.load(f"imagenet-val:{tmp_path}")
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: expected a picture that can be read, got: "):
        images.sha256  # noqa: B018
