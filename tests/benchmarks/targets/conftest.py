"""What the tests of this folder share."""

import pytest
import torch

from robnet_zoo import data
from robnet_zoo.zoo.registry import load_model
from tests.benchmarks.targets.models import DIGITS


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", n=20).batch(slice(None))


@pytest.fixture(scope="module")
def digits_logits(digits):
    with torch.no_grad():
        return load_model(DIGITS)(digits[0])
