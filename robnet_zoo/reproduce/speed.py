"""How long work takes on this machine: measured on a few images before anything begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.core.precision import Arithmetic, arithmetic
from robnet_zoo.data import Images
from robnet_zoo.nn.forms.autocast import attack_form
from robnet_zoo.nn.network import Network, modes_kept
from robnet_zoo.training.distributed import World, joined
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.updates import Updates
from robnet_zoo.zoo.architecture import Architecture

FEW = 4  # images at once, to begin with
MORE = 4  # times as many, until
LONG = 2.0  # seconds are what an update takes


@dataclass(frozen=True)
class Speed:
    """Seconds an image: of an update of the weights, attack included, and of a gradient with respect to the image.

    num_classes: of the network.
    """

    training: float
    gradient: float
    num_classes: int

    def train(self, recipe: Recipe, images: int, native: int) -> float:
        """Seconds of a whole run. Smaller images cost by their pixels."""
        shares = [(recipe.size_at(epoch, native) / native) ** 2 for epoch in range(1, recipe.epochs + 1)]
        return self.training * images * sum(shares)

    def measure(self, protocol: Protocol, n: int) -> float:
        """Seconds of a protocol, at most: what an attack fools early costs less."""
        # A forward without a backward is counted as both, and so is a further backward of the same forward.
        return self.gradient * n * sum(max(attack.usual_cost(self.num_classes)) for attack in protocol.attacks)


def speed(architecture: Architecture, recipe: Recipe) -> Speed:
    """Measured with random images: as many at once as in the recipe, or as keep it busy for a while."""
    n = min(FEW, recipe.batch)
    found = _speed(architecture, recipe, n)
    while n < recipe.batch and n * found.training < LONG:
        n = min(MORE * n, recipe.batch)
        found = _speed(architecture, recipe, n)
    return found


def _speed(architecture: Architecture, recipe: Recipe, n: int) -> Speed:
    (channels, height, width), classes = architecture.signature
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, height, width), generator=draw, dtype=torch.uint8)
    images = Images(pixels, torch.randint(0, classes, (n,), generator=draw), "random images")
    short = recipe.model_copy(update={"batch": n, "stages": (), "guard": None, "sync_bn": False})
    with joined() as world:
        state = initial_state(architecture, short, World(device=world.device))
        updates = Updates(state, images, short, World(device=world.device))

        def update() -> None:
            state.step = 0
            next(updates.epoch())

        training = _seconds(update, world.device)
        with modes_kept(state.network):
            # As targets have it: what was not compiled from a spec proposes in float32.
            wanted: Arithmetic = "bfloat16" if isinstance(state.network, Network) else "float32"
            form = attack_form(state.network.eval(), dtype=arithmetic(wanted, world.device))
            gradient = _seconds(lambda: _gradient(form, images, world.device), world.device)
    return Speed(training / n, gradient / n, classes)


def _gradient(form: nn.Module, images: Images, device: torch.device) -> None:
    pixels = images.batch(slice(None))[0].to(device).requires_grad_()
    torch.autograd.grad(form(pixels).square().sum(), pixels)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """The faster of two rounds."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found)
