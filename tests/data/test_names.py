"""The names of images."""

import pytest

from robnet_zoo import data
from robnet_zoo.data.names import DATA_SETS, check_name
from robnet_zoo.errors import DataError


def test_the_names_are_those_that_can_be_loaded():
    assert data.data_sets() == DATA_SETS


@pytest.mark.parametrize("name", ["digits", "cifar10-test:nowhere", "svhn-train", "pictures-64:nowhere"])
def test_a_name_is_accepted_before_anything_is_opened(name):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "train", "message"),
    [
        ("nope.npz", False, "nope.npz: expected an .npz, a folder of class folders or a known data set, got nothing"),
        ("cifar10-tset:data", False, "did you mean 'cifar10-test'?"),
        ("cifar10-test:data", True, "expected images to train on, cifar10-train:..., got others"),
        ("pictures-64:", False, "got nothing there"),
    ],
)
def test_a_wrong_name_is_refused(name, train, message):
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        check_name(name, train=train)
