"""What the tests of training share."""

import numpy as np
import pytest
from PIL import Image

from robnet_zoo import data
from robnet_zoo.training import Recipe, TrainingAttack


@pytest.fixture(scope="session")
def images() -> data.Images:
    """Return 120 scans of digits; the last 12 are held out."""
    return data.digits()[0][:120]


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Return a recipe of three epochs of three updates."""
    return Recipe(name="test", epochs=3, batch=32, attack=TrainingAttack(steps=1), validation=8)


@pytest.fixture
def imagenet(tmp_path):
    """Return 20 pictures of two classes in ImageNet's layout, and a validation part that no training may open."""
    dice = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (24, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}{index}.png")
    return tmp_path / "imagenet"


@pytest.fixture
def large(tiny):
    """Return `tiny` for pictures of 224x224."""
    network = tiny.network.model_copy(update={"input_size": (3, 224, 224), "num_classes": 2})
    return tiny.model_copy(update={"network": network})
