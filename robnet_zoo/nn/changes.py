"""What of a network is not as its spec builds it, and would be missing in a form that is read from the spec."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from timm.layers.classifier import create_classifier
from torch import nn

from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.blueprint import Blueprint, CellBlueprint, blueprint
from robnet_zoo.genotype.layers import Block, Layer
from robnet_zoo.nn.layers import Denoising, build
from robnet_zoo.nn.network import CellModule, EdgeModule, Network

METHODS = ("__call__", "forward", "forward_features", "forward_head")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
HEAD = ("global_pool", "classifier")
Kind = tuple[object, ...]  # a module's class and what its function depends on beside weights


def check_unchanged(network: Network, *, head: bool = False) -> None:
    """Raise ModelError if a network was changed since its spec was built. Arguments are those of `change_in`."""
    if change := change_in(network, head=head):
        raise ModelError(f"expected a network as its spec builds it, got one that was changed: {change}")


def change_in(network: Network, *, head: bool = False) -> str:
    """Return in words what was changed in a network since its spec was built, or nothing.

    Hooks, a forward of its own, parametrised and replaced modules are changes; weights, modes and dtypes are not.

    Args:
        network: the network.
        head: whether its pooling and classifier have to be as they were built too.
    """
    return next(_changes(network, head=head), "")


def build_of(network: Network) -> tuple[object, ...]:
    """Return what stays equal while a network's modules, their kinds, hooks and methods stay what they are."""
    return tuple(
        (
            id(module),
            _kind(module),
            tuple(id(vars(module).get(method)) for method in METHODS),
            tuple(id(hook) for hooks in HOOKS for hook in vars(module)[hooks].values()),
        )
        for module in network.modules()
    )


def _changes(network: Network, *, head: bool) -> Iterator[str]:
    for method in METHODS:
        if getattr(type(network), method) is not getattr(Network, method):
            yield f"{type(network).__name__} has a method {method} of its own"
        if method in vars(network):
            yield f"the network has a method {method} of its own"
    plan = blueprint(network.spec, in_chans=network.in_chans, num_classes=network.num_classes)
    built = dict(_kinds(plan))
    if head:
        built.update(_kinds_of_head(network))
    for name, module in network.named_modules(remove_duplicate=False):
        if not head and name.startswith(HEAD):
            continue
        own = vars(module)
        if any(own[hooks] for hooks in HOOKS):
            yield f"{name or 'the network'} has a hook"
        if not name:
            continue
        if "forward" in own:
            yield f"{name} has a method forward of its own"
        if _kind(module) != built.pop(name, None):
            yield f"{name} is not as the spec builds it, but {' '.join(repr(module).split())[:80]}"
    if built:
        yield f"{next(iter(built))} is missing"
    for index, (cell, cell_plan) in enumerate(zip(network.cells, plan.cells, strict=True)):
        assert isinstance(cell, CellModule)
        inputs, zeros = (cell.reads_before, cell.reads_last), (cell.zeros, cell.channels, cell.stride)
        if (cell.wiring, cell.concat, inputs, zeros) != _wiring(cell_plan):
            yield f"cells.{index} is wired otherwise than the spec says"


def _kinds(plan: Blueprint) -> Iterator[tuple[str, Kind]]:
    """Yield the name and kind of each module between images and head."""
    yield "stem", (nn.ModuleList,)
    for index, block in enumerate(plan.stem):
        yield from _kinds_of_block(f"stem.{index}", block)
    yield "cells", (nn.ModuleList,)
    for index, cell in enumerate(plan.cells):
        name = f"cells.{index}"
        yield name, (CellModule,)
        yield f"{name}.preprocess", (nn.ModuleDict,)
        for source, block in cell.preprocess.items():
            yield from _kinds_of_block(f"{name}.preprocess.{source}", block)
        yield f"{name}.edges", (nn.ModuleDict,)
        for edge, blocks in cell.edges.items():
            yield f"{name}.edges.{edge}", (EdgeModule,)
            for operation, block in blocks.items():
                yield from _kinds_of_block(f"{name}.edges.{edge}.{operation}", block)
        if cell.denoise:
            yield from _kinds_of_block(f"{name}.denoise", cell.denoise, Denoising)


def _kinds_of_block(name: str, block: Block, kind: type[nn.Module] = nn.Sequential) -> Iterator[tuple[str, Kind]]:
    yield name, (kind,)
    for index, layer in enumerate(block):
        for suffix, part in _kinds_of_layer(layer):
            yield f"{name}.{index}{suffix}", part


@lru_cache
def _kinds_of_layer(layer: Layer) -> tuple[tuple[str, Kind], ...]:
    with torch.device("meta"):
        (module,) = build((layer,))
    return tuple((f".{name}" if name else "", _kind(part)) for name, part in module.named_modules())


def _kinds_of_head(network: Network) -> Iterator[tuple[str, Kind]]:
    with torch.device("meta"):
        parts = create_classifier(
            network.num_features, network.num_classes, getattr(network.global_pool, "pool_type", "avg")
        )
    for own, part in zip(HEAD, parts, strict=True):
        for name, module in part.named_modules(prefix=own):
            yield name, _kind(module)


def _kind(module: nn.Module) -> Kind:
    if type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm):  # what it learns is read from it
        return (nn.BatchNorm2d, module.num_features, module.affine, module.running_mean is not None)
    if type(module) is nn.Conv2d:
        sizes = (module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding)
        return (nn.Conv2d, *sizes, module.dilation, module.groups, module.padding_mode, module.bias is not None)
    if type(module) is nn.ReLU:
        return (nn.ReLU,)
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return (type(module),)
    return (type(module), module.extra_repr()) if module.extra_repr() else (type(module),)


def _wiring(plan: CellBlueprint) -> tuple[list[tuple[int, int]], list[int], tuple[bool, bool], tuple[int, int, int]]:
    """Return what `CellModule` keeps of its graph."""
    position = {node: index for index, node in enumerate(plan.nodes)}
    wiring = [(position[source], position[target]) for source, target in plan.edges]
    inputs, zeros = (0 in plan.preprocess, 1 in plan.preprocess), (len(plan.zeros), plan.inner.channels, plan.stride)
    return wiring, [position[node] for node in plan.concat], inputs, zeros
