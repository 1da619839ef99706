"""Models that mislead, each in one way, and images for them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.benchmarks.checks.results import from_target
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.benchmarks.targets.torch import of_module


class Brightness(nn.Module):
    """Class 1 if the image is brighter than a half, from its pixels as `seen`: honest, if that is the identity."""

    scale = 10.0

    def forward(self, x):
        bright = self.scale * (self.seen(x).mean((1, 2, 3)) - 0.5)
        return torch.stack([-bright, bright], dim=1)

    def seen(self, x):
        return x


class Stairs(Brightness):
    """Sees 8-bit pixels: the function is nearly the same, its gradient is zero."""

    def seen(self, x):
        return (x * 255).round() / 255


class Scaled(Brightness):
    scale = 10_000.0


class Probable(Brightness):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Broken(Brightness):
    """No number for dark images."""

    def forward(self, x):
        logits = super().forward(x)
        return logits.where(x.mean((1, 2, 3), keepdim=False)[:, None] > 0.45, torch.nan)


class Noisy(Brightness):
    def seen(self, x):
        return x + 0.1 * torch.randn_like(x)


class BatchNormalised(Brightness):
    """Its batch norm uses the batch's own statistics, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def seen(self, x):
        return self.norm(x) + 0.5


def greys(low: int = 100, high: int = 156) -> data.Images:
    """Return even 4x4 images of each grey from `low` up to `high`, exclusive; labels are Brightness's answers."""
    values = torch.arange(low, high, dtype=torch.uint8)
    labels = (values > 127).long()
    return data.Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")


def target_of(module: nn.Module, *, handed_over: bool = False) -> Target:
    target = of_module(module.eval() if not handed_over else module, name=type(module).__name__)
    return replace(target, module=module) if handed_over else target


def probed(module: nn.Module, images: data.Images | None = None, **changes) -> dict[str, str]:
    """Return the alarms of the queries, by name."""
    alarms = from_target(target_of(module, **changes), greys() if images is None else images, seed=0)
    return {alarm.name: alarm.text for alarm in alarms}


RAISED_BY_QUERIES = {
    "robust_at_half": (Stairs, r"pgd20 left \d+ of 56 images right at eps 1/2"),
    "zero_gradients": (Stairs, r"100.0% of 56 images: 56 exactly zero, 0 not finite"),
    # Greys i of 255: the lead is 2 * 10,000 * |i / 255 - 1/2|, beyond 87.3 for all but 127 and 128.
    "saturated_logits": (Scaled, r"the largest logit of 54 of 56 images leads by more than 87, up to 2\.16e\+03"),
    "probabilities": (Probable, r"the 2 outputs of each of 56 images add up to 1"),
    # 0.45 of 255 is 114.75: the greys from 100 to 114 have none.
    "nan_logits": (Broken, r"15 of 56 images get logits that are not finite"),
    "random_outputs": (Noisy, r"two answers to the same 56 images differ by 0\.\d+ of the largest logit"),
    "batch_dependent": (BatchNormalised, r"beside other images, logits change by up to [\d.]+ of the largest, .*"),
}
