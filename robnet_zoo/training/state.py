"""Everything that changes while training, and that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.errors import TrainingError, WeightsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.changes import check_unchanged
from robnet_zoo.nn.forms.autocast import safe_layout, training_form
from robnet_zoo.nn.network import Network, modes_kept
from robnet_zoo.training.distributed import World
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.zoo.architecture import Architecture, build, from_run
from robnet_zoo.zoo.registry import load_weights, read_weights
from robnet_zoo.zoo.weights import check, entry_of

HistoryRow = dict[str, float]


@dataclass
class State:
    """A run between two updates of its weights."""

    network: nn.Module
    trained: nn.Module  # the same network in its training form, with gradients that are the mean over all processes
    optimizer: torch.optim.Optimizer
    average: ModelEmaV3 | None  # of the weights, where the recipe asks for one: what is validated and given
    epoch: int = 1
    step: int = 0  # of this epoch: how many are over
    loss: float = 0.0  # their summed losses
    updates: int = 0  # of the weights, in all
    seconds: float = 0.0  # of work so far, in all sessions
    perturbation: Tensor | None = None  # of free training, (N, C, H, W): it stays from batch to batch
    prior: dict[str, Tensor] = field(default_factory=dict)  # what training images keep between epochs, if anything
    guarded: dict[str, float] = field(default_factory=dict)  # the guard's best robust accuracy, by image size
    rescued: bool = False  # whether the guard has PGD take the place of the recipe's attack
    history: list[HistoryRow] = field(default_factory=list)
    best: dict[str, Tensor] | None = None  # the weights to give, where the recipe selects an epoch and one is over

    @property
    def given(self) -> nn.Module:
        """Return the network that the run gives: the averaged one if there is one."""
        if self.average is None:
            return self.network
        averaged: nn.Module = self.average.module
        return averaged

    @property
    def selected(self) -> dict[str, Tensor]:
        """Return the weights that the run would give now."""
        return self.given.state_dict() if self.best is None else self.best

    def next_epoch(self) -> None:
        """Go to the next epoch."""
        self.epoch, self.step, self.loss = self.epoch + 1, 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs, as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "prior": self.prior,
        } | {name: getattr(self, name) for name in PLAIN}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load another state of the same run. Raises KeyError and torch's errors if it is of another run."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        for name in PLAIN:
            setattr(self, name, state[name])
        self.prior = state.get("prior", {})  # not in checkpoints of earlier versions


PLAIN = ("epoch", "step", "loss", "updates", "seconds", "perturbation", "guarded", "rescued", "history", "best")


def initial_state(
    spec: Architecture, recipe: Recipe, world: World, *, weights: Path | None = None, strict: bool = True
) -> State:
    """Return the state of a run before its first update.

    Args:
        spec: the architecture.
        recipe: its seed initialises the network, in every process alike.
        world: the processes of the run.
        weights: a safetensors file to begin with instead.
        strict: whether the file has to hold this architecture's weights; otherwise it gives what both have, by name and
            shape.

    Raises: WeightsError for weights of another architecture, or with none in common if not strict; TrainingError for an
        optimizer that cannot run here, and for stages of sizes that the network cannot take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # torch's initialisation takes no generator
        network = build(spec).to(world.device)
    if weights is not None:
        given = read_weights(weights)
        _check_origin(weights, spec, strict=strict)
        if not strict:
            own = network.state_dict()
            shared = {key: value for key, value in given.items() if key in own and value.shape == own[key].shape}
            if not any(name in shared for name, _ in network.named_parameters()):
                raise WeightsError(f"{weights}: expected weights that {spec.name} has too, got none")
            given = own | shared
        load_weights(network, given, source=weights, name=spec.name)
    if not isinstance(network, Network):  # whose own forms arrange their weights themselves
        network = network.to(memory_format=safe_layout(network))
    _check_stages(network, spec, recipe, world)
    return state_of(network, recipe, world)


def _check_stages(network: nn.Module, spec: Architecture, recipe: Recipe, world: World) -> None:
    """Raise TrainingError if a network cannot take images of the sizes of a recipe's stages."""
    channels = spec.signature[0][0]
    with modes_kept(network), torch.no_grad():
        network.eval()
        for size in sorted({stage.size for stage in recipe.stages}):
            try:
                network(torch.zeros(1, channels, size, size, device=world.device))
            except (RuntimeError, ValueError, AssertionError) as error:
                raise TrainingError(
                    f"stages: expected sizes that {spec.name} can take, got {size}: {' '.join(str(error).split())}"
                ) from error


def _check_origin(weights: Path, spec: Architecture, *, strict: bool) -> None:
    """Raise WeightsError for a damaged file and, if strict, for weights of other cells.

    Those may have the same names and shapes.

    Only a manifest, or the document of a training run, beside the file can tell.
    """
    entry = entry_of(weights)
    origin = from_run(weights.parent)
    if entry is not None:
        origin = bundled = load_spec(entry.model)
        check(entry, bundled, folder=weights.parent)
    if not (strict and isinstance(origin, Genotype) and isinstance(spec, Genotype)):
        return
    if (origin.cells, origin.layout) != (spec.cells, spec.layout):
        raise WeightsError(f"{weights}: expected weights of {spec.name}, got those of other cells ({origin.name})")


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    try:
        return create_optimizer_v2(
            network, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
        )
    except (ImportError, AssertionError, RuntimeError) as error:  # one of another library, or for another device
        raise TrainingError(f"optimizer: expected one that runs here, got {recipe.optimizer}: {error}") from error


def state_of(network: nn.Module, recipe: Recipe, world: World) -> State:
    """Return the state of a run that begins with a network as it is.

    Args:
        network: on the device of the run.
        recipe: its optimizer, averaging and batch norms.
        world: the processes of the run.
    """
    if isinstance(network, Network):
        check_unchanged(network)
    if recipe.sync_bn and world.size > 1:
        network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # timm's knows norms that hold an activation
    average = None
    if recipe.ema:
        average = ModelEmaV3(network, decay=recipe.ema, use_warmup=True, warmup_gamma=10, warmup_power=1)
        average.requires_grad_(False)
    optimizer = _optimizer(network, recipe)
    form = training_form(network, dtype=resolve_dtype(recipe.dtype, world.device), traced=recipe.compile)
    return State(network, world.wrapped(form), optimizer, average)
