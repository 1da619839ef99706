"""The inference form of a network: the same function, arranged for speed. Attacks and exports run on it.

What changes, and why it is faster (figures: `benchmarks/speed.py`):

- batch norms are folded into the convolutions before them (in float64, then cast);
- every node is rectified once, not once an edge, and kept apart instead of concatenated, so that the cells that
  read it share the rectified node and no gradient has to be cut out of a concatenation;
- in channels-last layout a 1x1 convolution is a matrix product over the pixels that adds into its node's sum;
- a depthwise convolution of stride 2 is one of stride 1 of which every second pixel is kept: the gradient of the
  one is fast on CPUs, that of the other takes the slow path.

Gradients with respect to the input are those of the original; parameters ask for none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.blueprint import CellBlueprint, blueprint
from robnet_zoo.network import Cell, Network
from robnet_zoo.operations import FactorizedConv2d
from robnet_zoo.vocabulary import Block, Conv, FactorizedConv, Norm


class Value:
    """A node: x, (N, C, H, W), and what is derived from it at most once."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._relu: Tensor | None = None
        self._halves: tuple[Tensor, Tensor] | None = None

    @property
    def relu(self) -> Tensor:
        """max(x, 0), (N, C, H, W)."""
        if self._relu is None:
            self._relu = F.relu(self.x)
        return self._relu

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """The rectified pixels with even, and those with odd, coordinates: two of (N, C, H/2, W/2)."""
        if self._halves is None:
            self._halves = (every_second(self.relu), every_second(self.relu, start=1))
        return self._halves


class Pointwise(nn.Module):
    """A 1x1 convolution that may rectify its result, or add into a running sum.

    weight: (out, in). bias: (out,) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, channels_last: bool) -> None:
        super().__init__()
        self.channels_last, self.relu = channels_last, False
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor, total: Tensor | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W). A `total` is taken over: the sum may be made in its place."""
        if not self.channels_last:
            y = F.conv2d(x, self.weight[:, :, None, None], self.bias)
            y = y if total is None else total + y
            return F.relu(y) if self.relu else y
        if total is None:
            sums = F.linear(pixels(x), self.weight, self.bias)  # (N * H * W, out)
        else:
            sums = pixels(total).addmm_(pixels(x), self.weight.t())
            sums = sums if self.bias is None else sums.add_(self.bias)
        sums = F.relu_(sums) if self.relu else sums  # before the view, so that autograd sees no write to a view
        return as_image(sums, x)


class Affine(nn.Module):
    """A batch norm that no convolution before it can take: x * scale + shift, a channel. Both: (C,)."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(scale), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]  # (N, C, H, W)


class Subsampled(nn.Module):
    """A depthwise convolution of stride 2, as every second pixel of the one of stride 1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        conv.stride = (1, 1)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return every_second(self.conv(x))  # (N, C, H/2, W/2)


class Mix(nn.Module):
    """A 1x1 convolution of the concatenation of several values, without concatenating them."""

    def __init__(self, conv: nn.Conv2d, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        slices = conv.weight[:, :, 0, 0].detach().chunk(parts, dim=1)  # parts of (out, in / parts)
        self.terms = nn.ModuleList(
            Pointwise(slice.contiguous(), conv.bias if i == 0 else None, channels_last=channels_last)
            for i, slice in enumerate(slices)
        )

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for term, value in zip(self.terms, values, strict=True):
            total = term(value, total)
        assert total is not None
        return total


class Halving(nn.Module):
    """The factorized convolution of the concatenation of several values; see `vocabulary.FactorizedConv`."""

    def __init__(self, conv: FactorizedConv2d, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        self.even = Mix(conv.conv_1, parts, channels_last=channels_last)
        self.odd = Mix(conv.conv_2, parts, channels_last=channels_last)

    def forward(self, values: Sequence[Value]) -> Tensor:
        even = self.even([value.halves[0] for value in values])
        odd = self.odd([value.halves[1] for value in values])
        return torch.cat([even, odd], dim=1)  # (N, out, H/2, W/2)


class Preprocess(nn.Module):
    """A cell input: the nodes of an earlier cell, rectified and mixed."""

    def __init__(self, block: Block, module: nn.Module, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        (_, conv) = fold(block, module)
        self.mix: Mix | Halving
        if isinstance(conv, FactorizedConv2d):
            self.mix = Halving(conv, parts, channels_last=channels_last)
        else:
            assert isinstance(conv, nn.Conv2d)
            self.mix = Mix(conv, parts, channels_last=channels_last)

    def forward(self, values: Sequence[Value]) -> Tensor:
        x: Tensor = self.mix(values if isinstance(self.mix, Halving) else [value.relu for value in values])
        return x  # (N, C, H, W), of a Halving half the size


class EdgeOperation(nn.Module):
    """One operation on one edge. adder: its last step, where that can add into the node's running sum."""

    def __init__(self, block: Block, module: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        steps = fold(block, module)
        self.rectified = bool(steps) and isinstance(steps[0], nn.ReLU)
        steps = steps[self.rectified :]
        first = steps[0] if steps else None
        self.halving: Halving | None = None
        if self.rectified and isinstance(first, FactorizedConv2d):
            self.halving = Halving(first, 1, channels_last=channels_last)
            steps = steps[1:]
        steps = _lower(steps, channels_last=channels_last)
        last = steps[-1] if steps else None
        self.adder: Pointwise | None = None
        if isinstance(last, Pointwise) and not last.relu:  # max(x, 0) would be of this operation, not of the sum
            self.adder = last
            steps = steps[:-1]
        self.steps = nn.ModuleList(steps)

    def forward(self, value: Value, total: Tensor | None = None) -> Tensor:
        if self.halving is not None:
            x: Tensor = self.halving([value])
        else:
            x = value.relu if self.rectified else value.x
        for step in self.steps:
            x = step(x)
        if self.adder is not None:
            x, total = self.adder(x, total), None
        return x if total is None else total + x


class Node(nn.Module):
    """The sum of the operations on a node's edges, each with the position of its source among the cell's values."""

    def __init__(self, operations: Sequence[tuple[int, EdgeOperation]]) -> None:
        super().__init__()
        # The ones that add in place come first, when the running sum is still their own.
        ordered = sorted(operations, key=lambda operation: operation[1].adder is None)
        self.sources = [source for source, _ in ordered]
        self.operations = nn.ModuleList(operation for _, operation in ordered)
        _gather_biases([operation.adder for _, operation in ordered if operation.adder is not None])

    def forward(self, values: Sequence[Value]) -> Tensor:
        total: Tensor | None = None
        for source, operation in zip(self.sources, self.operations, strict=True):
            total = operation(values[source], total)
        assert total is not None
        return total


class InferenceDenoising(nn.Module):
    """A denoising block; its filter sees all channels at once, so the nodes are concatenated here."""

    def __init__(self, block: Block, module: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_lower(fold(block, module), channels_last=channels_last))

    def forward(self, values: Sequence[Value]) -> Value:
        x = keep_layout(torch.cat([value.x for value in values], dim=1))  # (N, C, H, W)
        added = x
        for step in self.steps:
            added = step(added)
        return Value(x + added)


class InferenceCell(nn.Module):
    """A cell on nodes that are kept apart: two lists of values in, the values of `concat` out, or one if denoised."""

    def __init__(self, plan: CellBlueprint, cell: Cell, parts: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__()
        self.sources = sorted(plan.preprocess)
        self.preprocess = nn.ModuleList(
            Preprocess(
                plan.preprocess[source], cell.preprocess[str(source)], parts[source], channels_last=channels_last
            )
            for source in self.sources
        )
        targets = dict.fromkeys(edge[1] for edge in plan.edges)
        position = {node: index for index, node in enumerate([*self.sources, *targets])}
        self.nodes = nn.ModuleList()
        for target in targets:
            operations = []
            for edge, blocks in plan.edges.items():
                if edge[1] == target:
                    for name, block in blocks.items():
                        module = cell.get_submodule(f"edges.{edge}.{name}")
                        operation = EdgeOperation(block, module, channels_last=channels_last)
                        operations.append((position[edge[0]], operation))
            self.nodes.append(Node(operations))
        self.concat = [position[node] for node in plan.concat]
        self.denoise: InferenceDenoising | None = None
        if cell.denoise is not None:
            self.denoise = InferenceDenoising(plan.denoise, cell.denoise, channels_last=channels_last)
        self.parts = len(self.concat) if self.denoise is None else 1

    def forward(self, before: Sequence[Value], last: Sequence[Value]) -> list[Value]:
        inputs = (before, last)
        values = [Value(block(inputs[source])) for source, block in zip(self.sources, self.preprocess, strict=True)]
        for node in self.nodes:
            values.append(Value(node(values)))
        outputs = [values[index] for index in self.concat]
        return outputs if self.denoise is None else [self.denoise(outputs)]


class InferenceNetwork(nn.Module):
    """The inference form of a Network; made by `robnet_zoo.compiler.for_inference`.

    Images: (N, C, H, W) in [0, 1], of any floating dtype and layout. Logits: (N, num_classes), of the images' dtype;
    inside, the cells compute in `dtype` and the head in at least float32.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        self.spec, self.num_classes = network.spec, network.num_classes
        self.dtype, self.channels_last = dtype, channels_last
        plan = blueprint(network.spec, in_chans=network.in_chans, num_classes=network.num_classes)
        self.stem = nn.ModuleList(
            nn.Sequential(*fold(block, stage)) for block, stage in zip(plan.stem, network.stem, strict=True)
        )
        self.cells = nn.ModuleList()
        parts = (1, 1)
        for cell_plan, cell in zip(plan.cells, network.cells, strict=True):
            assert isinstance(cell, Cell)
            form = InferenceCell(cell_plan, cell, parts, channels_last=channels_last)
            self.cells.append(form)
            parts = (parts[1], form.parts)
        self.global_pool = copy.deepcopy(network.global_pool)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.to(dtype).to(memory_format=layout)
        self.classifier = copy.deepcopy(network.classifier).to(torch.promote_types(dtype, torch.float32))
        self.eval().requires_grad_(False)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the last cell's output, (N, num_features, H', W'), in `dtype`."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        x = x.to(self.dtype).contiguous(memory_format=layout)
        stages: list[Value] = []
        for stage in self.stem:
            x = stage(x)
            stages.append(Value(x))
        before, last = stages[:1], stages[-1:]  # one and the same for a stem of one stage
        for cell in self.cells:
            before, last = last, cell(before, last)
        return keep_layout(torch.cat([value.x for value in last], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.global_pool(self.forward_features(x).to(torch.promote_types(self.dtype, torch.float32)))
        logits: Tensor = self.classifier(features)
        return logits.to(x.dtype)


def fold(block: Block, module: nn.Module) -> list[nn.Module]:
    """Copies of a block's modules in float64; each batch norm is folded into the convolution before it.

    Uses the running statistics, whatever mode the module is in.
    """
    children = [child for _, child in zip(block, module.children(), strict=True)]
    steps: list[nn.Module] = []
    for index, norm in folded(block):
        if index == norm:
            steps.append(Affine(*_scale_and_shift(children[norm])))
            continue
        step = copy.deepcopy(children[index]).double()
        if norm is not None:
            _scale(step, *_scale_and_shift(children[norm]))
        steps.append(step)
    return steps


def folded(block: Block) -> Iterator[tuple[int, int | None]]:
    """The steps that `fold` makes of a block: of each, the index of its layer and of the norm that is in it, if any.

    A norm is folded into the convolution before it; elsewhere it is a step of its own, and both indices are its.
    """
    norms = {index for index, layer in enumerate(block) if isinstance(layer, Norm)}
    inside = {index + 1 for index, layer in enumerate(block) if isinstance(layer, Conv | FactorizedConv)} & norms
    for index in range(len(block)):
        if index in norms - inside:
            yield index, index
        elif index not in inside:
            yield index, index + 1 if index + 1 in inside else None


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as x * scale + shift. Both: (C,), float64."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    return scale.detach(), shift.detach()


def _scale(conv: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Multiply a bias-free convolution's output channels by `scale` and add `shift`, in place. Both: (out,)."""
    if isinstance(conv, FactorizedConv2d):
        half = conv.out_channels // 2
        _scale(conv.conv_1, scale[:half], shift[:half])
        _scale(conv.conv_2, scale[half:], shift[half:])
        return
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    conv.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None])
    conv.bias = nn.Parameter(shift)


def _lower(steps: Sequence[nn.Module], *, channels_last: bool) -> list[nn.Module]:
    """Folded modules -> the fast ones where there are such, the same elsewhere."""
    lowered: list[nn.Module] = []
    for step in steps:
        if isinstance(step, nn.Conv2d) and step.kernel_size == (1, 1) and step.stride == (1, 1) and step.groups == 1:
            lowered.append(Pointwise(step.weight[:, :, 0, 0].detach(), step.bias, channels_last=channels_last))
        elif isinstance(step, nn.Conv2d) and step.stride == (2, 2) and step.groups == step.in_channels:
            lowered.append(Subsampled(step))
        elif isinstance(step, nn.ReLU) and lowered and isinstance(lowered[-1], Pointwise):
            lowered[-1].relu = True
        else:
            lowered.append(step)
    return lowered


def _gather_biases(adders: Sequence[Pointwise]) -> None:
    """Let the first of the steps that add into one sum add the biases of them all."""
    biases = [adder.bias.detach() for adder in adders if adder.bias is not None]
    if biases:
        for adder in adders:
            adder.bias = None
        adders[0].bias = nn.Parameter(torch.stack(biases).sum(0))


def pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) in channels-last layout -> (N * H * W, C), without a copy."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """(N * H * W, C) -> (N, C, H, W) in channels-last layout, with N, H and W of `like`, without a copy."""
    return rows.view(like.shape[0], like.shape[2], like.shape[3], -1).permute(0, 3, 1, 2)


def every_second(x: Tensor, *, start: int = 0) -> Tensor:
    """Every second pixel from (start, start) on: (N, C, H, W) -> (N, C, H/2, W/2), dense, in the layout of x."""
    return _EverySecond.apply(x, start)


def keep_layout(x: Tensor) -> Tensor:
    """x; its gradient gets x's layout. What follows a mean over pixels has none, and all layers below would be slow."""
    return _KeepLayout.apply(x)


class _EverySecond(torch.autograd.Function):
    """A strided slice whose gradient has the layout of its input: autograd's own is always in the default one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: int) -> Tensor:
        ctx.shape, ctx.start, ctx.layout = x.shape, start, _layout(x)
        return x[:, :, start::2, start::2].contiguous(memory_format=ctx.layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.layout).zero_()
        whole[:, :, ctx.start :: 2, ctx.start :: 2] = gradient
        return whole, None


class _KeepLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.layout = _layout(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=ctx.layout)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
