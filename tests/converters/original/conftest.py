"""What the tests of the original's files share."""

from functools import cache

import pytest

from robnet_zoo.converters.original.codes import from_original_json
from robnet_zoo.converters.original.unpickling import read_checkpoint


@pytest.fixture(scope="session")
def golden(official):
    """Return a function: name -> (spec, state dict) of one of the original's checkpoints; the dict is a copy."""

    @cache
    def load(name):
        return from_original_json(official / f"{name}.json"), read_checkpoint(official / f"{name}.pth.tar")

    return lambda name: (load(name)[0], dict(load(name)[1]))
