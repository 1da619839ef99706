"""What the tests of this folder share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robnet_zoo import data
from robnet_zoo.benchmarks.checks import inputs

MANY = inputs.LOOKED_AT  # as it is before the tests begin


@pytest.fixture(autouse=True)
def _many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show models as many images in other forms as users do; `tests/extras.py` cuts their number elsewhere."""
    monkeypatch.setattr(inputs, "LOOKED_AT", MANY)


@pytest.fixture(scope="module")
def cifar10() -> data.Images:
    """Return the first 50 test images of CIFAR-10."""
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        pytest.skip("ROBNET_ZOO_DATA does not name a folder with cifar10_test1k.npz")
    return data.load(Path(folder) / "cifar10_test1k.npz", n=50)
