"""What the tests of training share."""

import pytest

from robnet_zoo import data
from robnet_zoo.training import Recipe, TrainingAttack


@pytest.fixture(scope="session")
def images() -> data.Images:
    """120 scans of digits; the last 12 are held out."""
    return data.digits()[0][:120]


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Three epochs of three updates."""
    return Recipe(name="test", epochs=3, batch=32, attack=TrainingAttack(steps=1), validation=8)
