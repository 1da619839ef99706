"""What the tests of attacks share."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo import data
from robnet_zoo.zoo.registry import load_model
from tests.attacks.classifiers import small


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """Return a small network, which no test may change."""
    return small()


@pytest.fixture(scope="session")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return robnet_micro.cifar10 and 40 test images that it gets right: (model, (40, 3, 32, 32), (40,))."""
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        reason = "ROBNET_ZOO_DATA does not name a folder with cifar10_test1k.npz"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must not skip it")
        pytest.skip(reason)
    model = load_model("robnet_micro.cifar10").eval()
    images, labels = data.load(Path(folder) / "cifar10_test1k.npz", n=120).batch(slice(None))
    right = (model(images).argmax(1) == labels).nonzero()[:40, 0]
    assert len(right) == 40
    return model, images[right], labels[right]


@pytest.fixture
def linear() -> nn.Module:
    """Return a classifier of two classes with linear logits: the worst image of the ball is known in closed form."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
