"""The comparison of recipes for few cores."""

import numpy as np
import pytest
import torch

from robnet_zoo.data import Images
from robnet_zoo.errors import ArgumentError
from robnet_zoo.nn.compiler import compile
from tools import pilots


@pytest.fixture
def images() -> Images:
    pixels = torch.arange(11_250 * 3, dtype=torch.int64).remainder_(251).byte()
    return Images(pixels.reshape(-1, 3, 1, 1).expand(-1, -1, 32, 32), torch.arange(11_250) % 10, "made")


@pytest.mark.parametrize("arm", pilots.ARMS)
def test_an_arm_differs_from_the_base_in_what_it_says(arm):
    own, base = (pilots.recipe(name, 1).model_dump(mode="json") for name in (arm, pilots.BASE))
    changed = {key for key in own if own[key] != base[key]}
    assert changed == {"name", *pilots.ARMS[arm]} if arm != pilots.BASE else not changed
    assert own["seed"] == 1
    assert pilots.recipe(arm, 0).size_at(pilots.EPOCHS, pilots.PIXELS) == pilots.PIXELS


def test_an_arm_that_is_not_there_is_named_before_any_work(tmp_path):
    with pytest.raises(ArgumentError, match="arms: unknown arm \"prjor\", did you mean 'prior'"):
        pilots.measure(cifar=tmp_path / "none.npz", work=tmp_path, arms=("base", "prjor"))


def test_smaller_images_have_the_same_means_and_fit_the_network(images):
    small = pilots.smaller(images[:4])
    assert small.shape == (3, pilots.PIXELS, pilots.PIXELS)
    assert torch.equal(small.pixels.amax((2, 3)), images.pixels[:4].amax((2, 3)))
    logits = compile(pilots.network()).eval()(small.batch(slice(None))[0])
    assert logits.shape == (4, 10)


def run(arm: str, seed: int, right: list[int]) -> pilots.Run:
    correct = dict.fromkeys(("clean", *pilots.ATTACKS), tuple(right))
    return pilots.Run(arm=arm, seed=seed, recipe=pilots.recipe(arm, seed), hours=0.5, correct=correct)


def test_a_gain_is_that_of_the_images_and_shown_for_each_seed():
    own = [run("batch_64", 0, [1, 1, 1, 0]), run("batch_64", 1, [1, 0, 1, 0])]
    bases = [run(pilots.BASE, 0, [0, 0, 1, 0]), run(pilots.BASE, 1, [1, 0, 1, 0])]
    text, by_seed = pilots._gain(own, bases)
    assert by_seed == "+50.0, +0.0"
    half = 196 * np.std([0.5, 0.5, 0, 0], ddof=1) / 2  # of the means over seeds, an image each
    assert text == f"+25.0 ({25 - half:+.1f} – {25 + half:+.1f})"


def test_an_arm_stands_beside_the_base_of_the_seeds_that_it_has():
    runs = (
        run(pilots.BASE, 0, [1, 1, 0, 0]),
        run(pilots.BASE, 1, [0, 0, 0, 0]),
        run("crop_2", 0, [1, 1, 1, 0]),
        run("batch_64", 1, [1, 1, 1, 0]),
    )
    protocol = pilots.PROTOCOL
    document = pilots.PilotsResult(
        spec=pilots.network(),
        data="made",
        data_sha256="0" * 64,
        images=10,
        protocol=protocol,
        device="a processor",
        software={},
        runs=runs,
    )
    rows = {row.split("`")[1]: row.split(" | ")[2:] for row in pilots.table(document).splitlines()[4:]}
    assert rows[pilots.BASE][1:] == ["25.0", "25.0", "25.0", "–", "– |"]
    assert rows["crop_2"][1:4] == rows["batch_64"][1:4] == ["75.0"] * 3
    assert [rows[arm][5] for arm in ("crop_2", "batch_64")] == ["+25.0 |", "+75.0 |"]
    assert "muon" not in rows
