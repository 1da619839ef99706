"""The inference form of a network: the same function, arranged for speed. Attacks and exports run on it.

What changes, and why it is faster (figures: `benchmarks/speed/forms.py`):

- batch norms are folded into the convolutions before them (in float64, then cast);
- every node is rectified once, not once an edge, and kept apart instead of concatenated, so that the cells that
  read it share the rectified node and no gradient has to be cut out of a concatenation;
- in channels-last layout a 1x1 convolution is a matrix product over the pixels that adds into its node's sum;
- a depthwise convolution of stride 2 is run at stride 1, and every second pixel is kept: the gradient at stride 1
  is fast on CPUs, that at stride 2 takes the slow path.

Gradients with respect to the input are those of the original; parameters get none.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.genotype.blueprint import CellBlueprint, blueprint
from robnet_zoo.genotype.layers import Block
from robnet_zoo.nn.forms.folding import Affine, Derived, Fold, Halves, Step, fold
from robnet_zoo.nn.forms.layout import Activation, as_image, every_second, is_pointwise, keep_layout, pixels
from robnet_zoo.nn.layers import zero_node
from robnet_zoo.nn.network import CellModule, Network, check_floating


class Convolution(Derived):
    """A convolution. weight: (out, in / groups, kH, kW). bias: (out,) or None."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, origin: Fold) -> None:
        super().__init__()
        conv = origin.conv
        self.origin, self.groups = origin, conv.groups
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.make()

    def tensors(self) -> dict[str, Tensor | None]:
        return {"weight": self.origin.weight(), "bias": self.origin.bias()}

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Pointwise(Derived):
    """A 1x1 convolution that may rectify its result, or add into a running sum.

    weight: (out, in). bias: (out,) or None. columns: the input channels of its origin that are its own. biases: the
    origins whose biases it adds.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, origin: Fold, columns: slice = slice(None), *, channels_last: bool) -> None:
        super().__init__()
        self.channels_last, self.relu = channels_last, False
        self.origin, self.columns = origin, columns
        self.biases = [origin] if columns.start in (None, 0) else []
        self.make()

    def tensors(self) -> dict[str, Tensor | None]:
        return {"weight": self.origin.weight(self.columns)[:, :, 0, 0], "bias": self.total_bias()}

    def total_bias(self) -> Tensor | None:
        """Return the sum of the biases that it adds, (out,), in float64, if there are any."""
        biases = [bias for bias in (origin.bias() for origin in self.biases) if bias is not None]
        return torch.stack(biases).sum(0) if biases else None

    def add(self, x: Tensor, sums: Tensor | None = None) -> Tensor:
        """Return a running sum plus the convolution of x, (N, in, H, W), or the latter alone if there is no sum yet.

        In channels-last layout a sum is (N * H * W, out), which `image` turns into an image: written to as an image, it
        would be a view to autograd, which copies the gradient of every view that is written to.
        """
        if not self.channels_last:
            y = F.conv2d(x, self.weight[:, :, None, None], self.bias)
            y = y if sums is None else sums + y
            return F.relu(y) if self.relu else y
        if sums is None:
            sums = F.linear(pixels(x), self.weight, self.bias)
        else:
            sums = sums.addmm_(pixels(x), self.weight.t())
            sums = sums if self.bias is None else sums.add_(self.bias)
        return F.relu_(sums) if self.relu else sums

    def image(self, sums: Tensor, like: Tensor) -> Tensor:
        """Return what `add` gave, as (N, out, H, W), with N, H and W of `like`."""
        return as_image(sums, like) if self.channels_last else sums

    def forward(self, x: Tensor) -> Tensor:
        return self.image(self.add(x), x)  # (N, out, H, W)


class Copied(Derived):
    """Any other module, as it is."""

    def __init__(self, origin: nn.Module) -> None:
        super().__init__()
        self.origin, self.copy = (origin,), copy.deepcopy(origin).double()

    def refresh(self) -> None:
        self.copy.load_state_dict(self.origin[0].state_dict())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.copy(x)
        return y


class Subsampled(nn.Module):
    """A depthwise convolution of stride 2, as every second pixel of the one of stride 1."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        conv.stride = (1, 1)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return every_second(self.conv(x))  # (N, C, H/2, W/2)


class Mix(nn.Module):
    """A 1x1 convolution of the concatenation of several values, without concatenating them."""

    def __init__(self, origin: Fold, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        share = origin.conv.in_channels // parts
        self.terms = nn.ModuleList(
            Pointwise(origin, slice(i * share, (i + 1) * share), channels_last=channels_last) for i in range(parts)
        )

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        sums, total = None, None
        for term, value in zip(self.terms, values, strict=True):
            assert isinstance(term, Pointwise)
            sums = term.add(value, sums)
            total = term.image(sums, value)
        assert total is not None
        return total


class Halving(nn.Module):
    """The factorized convolution of the concatenation of several values; see `genotype.layers.FactorizedConv`."""

    def __init__(self, origin: Halves, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        self.even = Mix(origin.even, parts, channels_last=channels_last)
        self.odd = Mix(origin.odd, parts, channels_last=channels_last)

    def forward(self, values: Sequence[Activation]) -> Tensor:
        even = self.even([value.halves[0] for value in values])
        odd = self.odd([value.halves[1] for value in values])
        return torch.cat([even, odd], dim=1)  # (N, out, H/2, W/2)


class Factorized(nn.Module):
    """The factorized convolution of one value that is not rectified before."""

    def __init__(self, origin: Halves) -> None:
        super().__init__()
        self.even, self.odd = Convolution(origin.even), Convolution(origin.odd)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1)  # (N, out, H/2, W/2)


class Preprocess(nn.Module):
    """A cell input: the nodes of an earlier cell, rectified and mixed."""

    def __init__(self, block: Block, module: nn.Module, parts: int, *, channels_last: bool) -> None:
        super().__init__()
        (_, conv) = fold(block, module)
        self.mix: Mix | Halving
        if isinstance(conv, Halves):
            self.mix = Halving(conv, parts, channels_last=channels_last)
        else:
            assert isinstance(conv, Fold)
            self.mix = Mix(conv, parts, channels_last=channels_last)

    def forward(self, values: Sequence[Activation]) -> Tensor:
        x: Tensor = self.mix(values if isinstance(self.mix, Halving) else [value.relu for value in values])
        return x  # (N, C, H, W), of a Halving half the size


class EdgeOperation(nn.Module):
    """One operation on one edge. adder: its last step, where that can add into the node's running sum, left to it."""

    def __init__(self, block: Block, module: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        folds = fold(block, module)
        self.rectified = bool(folds) and isinstance(folds[0], nn.ReLU)
        folds = folds[self.rectified :]
        first = folds[0] if folds else None
        self.halving: Halving | None = None
        if self.rectified and isinstance(first, Halves):
            self.halving = Halving(first, 1, channels_last=channels_last)
            folds = folds[1:]
        steps = _lower(folds, channels_last=channels_last)
        last = steps[-1] if steps else None
        self.adder: Pointwise | None = None
        if isinstance(last, Pointwise) and not last.relu:  # max(x, 0) would be of this operation, not of the sum
            self.adder = last
            steps = steps[:-1]
        self.steps = nn.ModuleList(steps)

    def forward(self, value: Activation) -> Tensor:
        """Return the input of the adder or, without an adder, the result."""
        if self.halving is not None:
            x: Tensor = self.halving([value])
        else:
            x = value.relu if self.rectified else value.x
        for step in self.steps:
            x = step(x)
        return x


class NodeSum(nn.Module):
    """The sum of the operations on a node's edges, each with the position of its source among the cell's values."""

    def __init__(self, operations: Sequence[tuple[int, EdgeOperation]]) -> None:
        super().__init__()
        # Operations that add in place come first, while the running sum is still theirs.
        ordered = sorted(operations, key=lambda operation: operation[1].adder is None)
        self.sources = [source for source, _ in ordered]
        self.operations = nn.ModuleList(operation for _, operation in ordered)
        _gather_biases([operation.adder for _, operation in ordered if operation.adder is not None])

    def forward(self, values: Sequence[Activation]) -> Tensor:
        sums: Tensor | None = None
        total: Tensor | None = None
        for source, operation in zip(self.sources, self.operations, strict=True):
            assert isinstance(operation, EdgeOperation)
            x, adder = operation(values[source]), operation.adder
            if adder is None:
                total = x if total is None else total + x
            else:
                sums = adder.add(x, sums)
                total = adder.image(sums, x)
        assert total is not None
        return total


class InferenceDenoising(nn.Module):
    """A denoising block; its filter sees all channels at once, so the nodes are concatenated here."""

    def __init__(self, block: Block, module: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_lower(fold(block, module), channels_last=channels_last))

    def forward(self, values: Sequence[Activation]) -> Activation:
        x = keep_layout(torch.cat([value.x for value in values], dim=1))  # (N, C, H, W)
        added = x
        for step in self.steps:
            added = step(added)
        return Activation(x + added)


class InferenceCell(nn.Module):
    """A cell on nodes that are kept apart: two lists of values in, the values of `concat` out, or one if denoised."""

    def __init__(self, plan: CellBlueprint, cell: CellModule, parts: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__()
        self.sources = sorted(plan.preprocess)
        self.preprocess = nn.ModuleList(
            Preprocess(
                plan.preprocess[source], cell.preprocess[str(source)], parts[source], channels_last=channels_last
            )
            for source in self.sources
        )
        self.zeros, self.channels, self.stride = len(plan.zeros), plan.inner.channels, plan.stride
        position = {node: index for index, node in enumerate(plan.nodes)}
        self.nodes = nn.ModuleList()
        for target in plan.nodes[len(self.sources) + self.zeros :]:
            operations = []
            for edge, blocks in plan.edges.items():
                if edge[1] == target:
                    for name, block in blocks.items():
                        module = cell.get_submodule(f"edges.{edge}.{name}")
                        operation = EdgeOperation(block, module, channels_last=channels_last)
                        operations.append((position[edge[0]], operation))
            self.nodes.append(NodeSum(operations))
        self.concat = [position[node] for node in plan.concat]
        self.denoise: InferenceDenoising | None = None
        if cell.denoise is not None:
            self.denoise = InferenceDenoising(plan.denoise, cell.denoise, channels_last=channels_last)
        self.parts = len(self.concat) if self.denoise is None else 1

    def forward(self, before: Sequence[Activation], last: Sequence[Activation]) -> list[Activation]:
        inputs = (before, last)
        values = [
            Activation(block(inputs[source])) for source, block in zip(self.sources, self.preprocess, strict=True)
        ]
        if self.zeros:
            values += [Activation(zero_node(last[0].x, self.channels, self.stride))] * self.zeros
        for node in self.nodes:
            values.append(Activation(node(values)))
        outputs = [values[index] for index in self.concat]
        return outputs if self.denoise is None else [self.denoise(outputs)]


class InferenceNetwork(nn.Module):
    """The inference form of a Network; made by `robnet_zoo.nn.compiler.for_inference`.

    It holds on to the network's layers: `refresh` takes over what they have become.

    Images: (N, C, H, W) in [0, 1], of any floating dtype and layout. Logits: (N, num_classes), of the images' dtype;
    inside, the cells compute in `dtype` and the head in at least float32.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype, channels_last: bool) -> None:
        super().__init__()
        self.spec, self.num_classes = network.spec, network.num_classes
        self.dtype, self.channels_last = dtype, channels_last
        plan = blueprint(network.spec, in_chans=network.in_chans, num_classes=network.num_classes)
        self.stem = nn.ModuleList(
            nn.Sequential(*map(_made, fold(block, stage))) for block, stage in zip(plan.stem, network.stem, strict=True)
        )
        self.cells = nn.ModuleList()
        parts = (1, 1)
        for cell_plan, cell in zip(plan.cells, network.cells, strict=True):
            assert isinstance(cell, CellModule)
            form = InferenceCell(cell_plan, cell, parts, channels_last=channels_last)
            self.cells.append(form)
            parts = (parts[1], form.parts)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.to(dtype).to(memory_format=layout)
        head = torch.promote_types(dtype, torch.float32)
        self.global_pool, self.classifier = Copied(network.global_pool).to(head), Copied(network.classifier).to(head)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the network's present parameters and running statistics, as if the form were newly made."""
        for module in self.modules():
            if isinstance(module, Derived):
                module.refresh()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last cell's output for x, (N, C, H, W): (N, num_features, H', W'), in `dtype`."""
        check_floating(x)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        x = x.to(self.dtype).contiguous(memory_format=layout)
        stages: list[Activation] = []
        for stage in self.stem:
            x = stage(x)
            stages.append(Activation(x))
        before, last = stages[:1], stages[-1:]  # one and the same for a stem of one stage
        for cell in self.cells:
            before, last = last, cell(before, last)
        return keep_layout(torch.cat([value.x for value in last], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.global_pool(self.forward_features(x).to(torch.promote_types(self.dtype, torch.float32)))
        logits: Tensor = self.classifier(features)
        return logits.to(x.dtype)


def _made(step: Step) -> nn.Module:
    """Return a step, unchanged, as a module of a form; none is the network's own."""
    if isinstance(step, Fold):
        return Convolution(step)
    if isinstance(step, Halves):
        return Factorized(step)
    if isinstance(step, nn.ReLU):
        return nn.ReLU()
    return step if isinstance(step, Affine) else Copied(step)


def _lower(steps: Sequence[Step], *, channels_last: bool) -> list[nn.Module]:
    """Return the steps as fast modules where those exist, and as they are elsewhere."""
    lowered: list[nn.Module] = []
    for step in steps:
        before = lowered[-1] if lowered else None
        if isinstance(step, nn.ReLU) and isinstance(before, Pointwise):
            before.relu = True
        elif isinstance(step, Fold) and is_pointwise(step.conv):
            lowered.append(Pointwise(step, channels_last=channels_last))
        elif isinstance(step, Fold) and step.conv.stride == (2, 2) and step.conv.groups == step.conv.in_channels:
            lowered.append(Subsampled(Convolution(step)))
        else:
            lowered.append(_made(step))
    return lowered


def _gather_biases(adders: Sequence[Pointwise]) -> None:
    """Let the first of the steps that add into one sum add the biases of them all."""
    biases = [origin for adder in adders for origin in adder.biases]
    for adder in adders:
        adder.biases = biases if adder is adders[0] else []
        bias = adder.total_bias()
        adder.bias = None if bias is None else nn.Parameter(bias)
