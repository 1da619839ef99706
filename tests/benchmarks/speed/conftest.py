"""What the tests of this folder share."""

import pytest
import torch

from robnet_zoo.data import Images


@pytest.fixture
def images() -> Images:
    """Return greys from 110 on in steps of 5 of 255, where a half is 127.5; the first label is wrong."""
    values = torch.tensor([110, 115, 120, 125, 130, 135, 140], dtype=torch.uint8)
    labels = (values > 127).long()
    labels[0] = 1
    return Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")
