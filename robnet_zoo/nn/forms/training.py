"""The training form of a network: the same function of the same parameters, arranged for speed.

Parameters, buffers and modes are the network's own, so it trains, and is saved, as if it had been called itself. What
changes is the way through its modules, as in the inference form (`robnet_zoo.nn.forms.inference`) but with batch norms
alive: one rectification a node, nothing concatenated, 1x1 convolutions as matrix products over pixels, sums in place,
depthwise convolutions of stride 2 as every second pixel of those of stride 1, and gradients that keep the
channels-last layout all the way down (figures: `benchmarks/speed/forms.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.nn.forms.layout import Activation, as_image, every_second, is_pointwise, keep_layout, pixels
from robnet_zoo.nn.layers import Denoising, FactorizedConv2d, zero_node
from robnet_zoo.nn.network import CellModule, Network, check_floating


class TrainingForm(nn.Module):
    """A network, called in its training form; made by `robnet_zoo.nn.compiler.for_training`.

    Images: (N, C, H, W) in [0, 1], float32. Logits: (N, num_classes), float32. In between, `dtype`; parameters and
    their gradients keep their own.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        check_floating(x)
        network = self.network
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        stages: list[Activation] = []
        for stage in network.stem:
            assert isinstance(stage, nn.Sequential)
            for layer in stage:
                x = _layer(layer, x)
            stages.append(Activation(x))
        before, last = stages[:1], stages[-1:]  # one and the same for a stem of one stage
        for cell in network.cells:
            assert isinstance(cell, CellModule)
            before, last = last, _cell(cell, before, last)
        features = keep_layout(torch.cat([value.x for value in last], dim=1))
        logits: Tensor = network.forward_head(features.to(torch.promote_types(self.dtype, torch.float32)))
        return logits


def _cell(cell: CellModule, before: Sequence[Activation], last: Sequence[Activation]) -> list[Activation]:
    """Return the nodes of `concat`, or their denoised concatenation, from the nodes of the two cells before."""
    inputs = {"0": before, "1": last}
    values = [Activation(_mixed(block, inputs[source])) for source, block in cell.preprocess.items()]
    if cell.zeros:
        values += [Activation(zero_node(last[0].x, cell.channels, cell.stride))] * cell.zeros
    operations: dict[int, list[tuple[int, nn.Module]]] = {}  # of each target: (source, operation)
    for (source, target), edge in zip(cell.wiring, cell.edges.values(), strict=True):
        assert isinstance(edge, nn.ModuleDict)
        operations.setdefault(target, []).extend((source, operation) for operation in edge.values())
    for target in sorted(operations):
        # Operations that make a new tensor come first: the others are then added to it in place.
        ordered = sorted(operations[target], key=lambda operation: not len(operation[1]))  # type: ignore[arg-type]
        total: Tensor | None = None
        for source, operation in ordered:
            total = _operation(operation, values[source], total)
        assert total is not None
        values.append(Activation(total))
    outputs = [values[index] for index in cell.concat]
    return outputs if cell.denoise is None else [_denoised(cell.denoise, outputs)]


def _denoised(block: Denoising, values: Sequence[Activation]) -> Activation:
    x = keep_layout(torch.cat([value.x for value in values], dim=1))  # (N, C, H, W)
    added = x
    for layer in block:
        added = _layer(layer, added)
    return Activation(x + added)


def _operation(block: nn.Module, value: Activation, total: Tensor | None) -> Tensor:
    """Return a node's running sum with one more operation added, in place of one of the two."""
    assert isinstance(block, nn.Sequential)
    layers, x = list(block), value.x
    if layers and isinstance(layers[0], nn.ReLU):
        layers = layers[1:]
        if layers and isinstance(layers[0], FactorizedConv2d):
            x, layers = _halved(layers[0], [value]), layers[1:]
        else:
            x = value.relu
    for layer in layers:
        x = _layer(layer, x)
    if total is None:
        return x
    is_own = x is not value.x and x is not value.relu
    # A rectifier's gradient is made of its output.
    return x.add_(total) if is_own and not isinstance(block[-1], nn.ReLU) else total + x


def _mixed(block: nn.Module, values: Sequence[Activation]) -> Tensor:
    """Return a preprocess block (ReLU, 1x1 convolution, norm) of the concatenation of several nodes, (N, C, H, W)."""
    assert isinstance(block, nn.Sequential)
    _, conv, *rest = block
    if isinstance(conv, FactorizedConv2d):
        x = _halved(conv, values)
    else:
        assert isinstance(conv, nn.Conv2d)
        x = _products(conv, [value.relu for value in values])
    for layer in rest:
        x = _layer(layer, x)
    return x


def _halved(conv: FactorizedConv2d, values: Sequence[Activation]) -> Tensor:
    """Return a factorized convolution of the concatenation of rectified nodes: (N, C, H/2, W/2)."""
    even = _products(conv.conv_1, [value.halves[0] for value in values])
    odd = _products(conv.conv_2, [value.halves[1] for value in values])
    return torch.cat([even, odd], dim=1)


def _products(conv: nn.Conv2d, parts: Sequence[Tensor]) -> Tensor:
    """Return a 1x1 convolution of the concatenation of several tensors, without concatenating them."""
    weights = conv.weight.to(parts[0].dtype).flatten(1).chunk(len(parts), dim=1)  # of (out, in / parts)
    total = F.linear(pixels(parts[0]), weights[0])  # (N * H * W, out)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.addmm_(pixels(part), weight.t())
    return as_image(total, parts[0])


def _layer(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the output of one layer, in the dtype of x, by a fast way if there is one."""
    if isinstance(layer, _BatchNorm):
        return layer(x)
    if not isinstance(layer, nn.Conv2d):
        return F.relu_(x) if isinstance(layer, nn.ReLU) else layer(x)
    if is_pointwise(layer):
        return _products(layer, [x])
    weight = layer.weight.to(x.dtype)
    if layer.stride == (2, 2) and layer.groups == layer.in_channels and layer.dilation == (1, 1):
        return every_second(F.conv2d(x, weight, None, 1, layer.padding, groups=layer.groups))
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
