"""What the tests of the command share."""

import pytest


@pytest.fixture
def spec_file(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    return tmp_path / "tiny.json"
