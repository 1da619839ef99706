"""What the tests of the command share."""

from pathlib import Path

import numpy as np
import pytest

from robnet_zoo import data


@pytest.fixture
def spec_file(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    return tmp_path / "tiny.json"


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Return a file of 100 digits, to train on where more would teach nothing more."""
    path, images = tmp_path_factory.mktemp("data") / "scans.npz", data.digits()[0][:100]
    np.savez(path, images=images.pixels.permute(0, 2, 3, 1).numpy(), labels=images.labels.numpy())
    return path
