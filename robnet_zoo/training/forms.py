"""What training computes with: the fast forms of a compiled network, or any other module as it is, in their dtype."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robnet_zoo.compiler import for_inference, for_training
from robnet_zoo.network import Network


class Cast(nn.Module):
    """A module under autocast, in channels-last layout: the way of those that were not compiled from a spec.

    Images: (N, C, H, W) in [0, 1], float32. Logits: (N, num_classes), float32.
    """

    def __init__(self, network: nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.network(x)
        return logits.float()


def training_form(network: nn.Module, *, dtype: torch.dtype) -> nn.Module:
    """What is trained: the same parameters and batch norms."""
    return for_training(network, dtype=dtype) if isinstance(network, Network) else Cast(network, dtype=dtype)


def attack_form(network: nn.Module, *, dtype: torch.dtype) -> nn.Module:
    """What attacks look at: the function of a network in eval mode, in which it must be while they do."""
    return for_inference(network, dtype=dtype) if isinstance(network, Network) else Cast(network, dtype=dtype)
