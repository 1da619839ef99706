"""Classifiers whose answers are known, all attacks in one table, and a counter of queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import (
    AdaptiveApgd,
    Apgd,
    Bim,
    Bsr,
    CarliniWagner,
    Ddn,
    DeepFool,
    Fgsm,
    IterativeAttack,
    MiFgsm,
    NiFgsm,
    Pgd,
    Square,
    SquareL2,
    Ssa,
    VmiFgsm,
)

EPS = 8 / 255
STEP = "4/255"
ATTACKS: dict[str, IterativeAttack] = {
    "fgsm": Fgsm(),
    "fgsm_l2": Fgsm(norm="l2"),
    "bim": Bim(steps=12, step=STEP),
    "bim_l2": Bim(steps=12, step="30/255", norm="l2"),
    "pgd": Pgd(steps=12, step=STEP),
    "pgd_margin": Pgd(steps=12, step=STEP, loss="margin"),
    "pgd_dlr": Pgd(steps=12, step=STEP, loss="dlr"),
    "pgd_restarts": Pgd(steps=6, step=STEP, restarts=2),
    "pgd_l2": Pgd(steps=12, step="30/255", norm="l2"),
    "pgd_margin_l2": Pgd(steps=12, step="30/255", norm="l2", loss="margin"),
    "pgd_dlr_l2": Pgd(steps=12, step="30/255", norm="l2", loss="dlr"),
    "mi_fgsm": MiFgsm(steps=12, step=STEP),
    "mi_fgsm_l2": MiFgsm(steps=12, step="30/255", norm="l2"),
    "mi_di_fgsm": MiFgsm(steps=12, step=STEP, diversity=0.7),
    "ni_fgsm": NiFgsm(steps=12, step=STEP),
    "ni_fgsm_l2": NiFgsm(steps=12, step="30/255", norm="l2"),
    "si_ni_fgsm": NiFgsm(steps=12, step=STEP, scales=3),
    "vmi_fgsm": VmiFgsm(steps=12, step=STEP, neighbours=3),
    "vmi_fgsm_l2": VmiFgsm(steps=12, step="30/255", neighbours=3, norm="l2"),
    "ssa": Ssa(steps=12, step=STEP, spectra=3),
    "ssa_l2": Ssa(steps=12, step="30/255", spectra=3, norm="l2"),
    "bsr": Bsr(steps=12, step=STEP, shuffles=3),
    "apgd": Apgd(steps=20),
    "apgd_margin": Apgd(steps=20, loss="margin"),
    "apgd_dlr": Apgd(steps=20, loss="dlr"),
    "apgd_dlr_t": Apgd(steps=12, loss="dlr", target_classes=3),
    "apgd_l2": Apgd(steps=30, norm="l2"),
    "apgd_dlr_l2": Apgd(steps=30, norm="l2", loss="dlr"),
    "adaptive_apgd": AdaptiveApgd(explore=6, probe=4, classes=2, steps=20),
    "adaptive_apgd_l2": AdaptiveApgd(explore=6, probe=4, classes=2, steps=20, norm="l2"),
    "deepfool": DeepFool(),
    "deepfool_l2": DeepFool(norm="l2"),
    "deepfool_minimal": DeepFool(mode="minimal"),
    "deepfool_minimal_l2": DeepFool(mode="minimal", norm="l2"),
    "cw": CarliniWagner(searches=3, steps=40, learning_rate=0.03, initial_c=1.0),
    "ddn": Ddn(steps=60, radius=0.3),
    "square": Square(queries=60),
    "square_l2": SquareL2(queries=60),
}
LONGER: dict[str, IterativeAttack] = {  # steps enough to reach the optimum of a linear model
    "apgd_dlr_t": Apgd(steps=20, loss="dlr", target_classes=1),
    "cw": CarliniWagner(searches=6, steps=60, learning_rate=0.02, initial_c=0.1),
    "square": Square(queries=1200),
    "square_l2": SquareL2(queries=1200),
}
GRADIENT = [name for name, attack in ATTACKS.items() if not attack.gradient_free]
BALL = [name for name, attack in ATTACKS.items() if not attack.minimal]  # what they give lies in the ball


class Opposites(nn.Module):
    """Four logits (s, -s, -50, -60) with s = w x + b: linear, and for every loss the worst direction is +-w.

    An image leaves its class where it crosses w x + b = 0, at a distance of |s| / |w| in the dual norm.
    """

    def __init__(self, shape: tuple[int, int, int] = (3, 4, 4), *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(shape, generator=generator))
        self.b = nn.Parameter(-0.5 * self.w.detach().sum())  # grey is on the boundary

    def score(self, x: Tensor) -> Tensor:
        """Return s, (N,)."""
        return (x * self.w).flatten(1).sum(1) + self.b

    def forward(self, x: Tensor) -> Tensor:
        s = self.score(x)
        far = torch.zeros_like(s)
        return torch.stack([s, -s, far - 50, far - 60], dim=1)

    def labels(self, x: Tensor) -> Tensor:
        """Return the classes that the model gives, (N,)."""
        return (self.score(x) < 0).long()

    def distances(self, x: Tensor, norm: str) -> Tensor:
        """Return the distances to the boundary, (N,)."""
        dual = self.w.abs().sum() if norm == "linf" else self.w.square().sum().sqrt()
        return (self.score(x).abs() / dual).detach()

    def worst(self, x: Tensor, eps: Tensor, norm: str) -> Tensor:
        """Return the image of the ball that is most clearly in the other class, if the box is far: (N, C, H, W)."""
        direction = self.w.sign() if norm == "linf" else self.w / self.w.square().sum().sqrt()
        away = -self.score(x).sign()[:, None, None, None]
        return (x + eps[:, None, None, None] * away * direction).detach()


def greys(count: int, shape: tuple[int, int, int] = (3, 4, 4), *, seed: int = 1) -> Tensor:
    """Return images around grey, far from black and white: (N, C, H, W) in [0.35, 0.65]."""
    return 0.35 + 0.3 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def far(model: Opposites, count: int) -> Tensor:
    """Draw four times as many greys, and return those that are furthest from the boundary."""
    images = greys(4 * count)
    return images[model.distances(images, "l2").argsort()[-count:]]


def small(classes: int = 5, *, seed: int = 0) -> nn.Module:
    """Return a network for 8x8 images in eval mode, with two convolutions, a batch norm and a dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)]
        layers += [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, classes)]
        model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        last = model[-1]
        last.weight.mul_(8)
        images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        last.bias.sub_(model(images).mean(0))  # else one class wins everywhere
    return model


def worst(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the argmax of the cross-entropy of a two-class linear model over the ball of EPS and the box."""
    weight = model[1].weight
    direction = (weight[1 - labels] - weight[labels]).sign().reshape(images.shape)
    return (images + EPS * direction).clamp(0, 1).detach()


class Counting(nn.Module):
    """A model that counts its calls, and how often each image was seen, forwards and backwards.

    The images carry their number n as n / 20 in their first value, which attacks with eps < 1 / 40 do not hide.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls = self.rows = self.backward_calls = 0
        self.sizes: list[int] = []
        self.seen: dict[int, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(x)
        self.sizes.append(len(x))
        for number in (x[:, 0, 0, 0].detach() * 20).round().int().tolist():
            self.seen[number] = self.seen.get(number, 0) + 1
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_calls += 1
