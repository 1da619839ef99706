"""A classifier whose robust accuracy is known in closed form."""

import torch
from torch import nn


class Brightness(nn.Module):
    """A classifier that gives class 1 if the image is brighter than a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        bright = self.scale * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], dim=1)
