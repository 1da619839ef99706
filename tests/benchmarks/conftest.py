"""What the tests of this folder share."""

import pytest
import torch

from robnet_zoo import data


@pytest.fixture
def grey() -> data.Images:
    """Return even greys from 100 to 155 of 255; the labels are Brightness's own answers, except the first."""
    values = torch.arange(100, 156, dtype=torch.uint8)
    labels = (values > 127).long()
    labels[0] = 1
    return data.Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")
