"""Every layer of a spec's network, as data: the compiler builds it, and costs are counted on it.

Imports no torch. Depth d's inputs are the outputs of depths d - 2 and d - 1; before the first cell stand the stem's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robnet_zoo.genotype import layers
from robnet_zoo.genotype.genotype import Edge, Genotype
from robnet_zoo.genotype.layers import Block, Conv, Norm, Relu, Size
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.passes import drop_dead_edges


@dataclass(frozen=True)
class Feature:
    """The output of a stage, which the next takes: (N, channels, H, W) with size = (H, W)."""

    channels: int
    size: Size


@dataclass(frozen=True)
class CellBlueprint:
    """The blocks of one cell.

    preprocess: for each input that the cell reads (0, 1), the block that brings it to `channels` and to one size.
    zeros: the nodes that are read, and that no edge leads to.
    edges: for each edge that carries something, its operations' blocks by name; ordered by target, then source.
    concat: the nodes of the output.  inner: nodes 0 and 1 behind their preprocessing.  output: the concatenation.
    denoise: what is computed of the concatenation and added to it, if anything is.
    """

    inputs: tuple[Feature, Feature]
    preprocess: dict[int, Block]
    zeros: tuple[int, ...]
    edges: dict[Edge, dict[str, Block]]
    concat: tuple[int, ...]
    inner: Feature
    output: Feature
    reduction: bool
    denoise: Block = ()

    @property
    def nodes(self) -> tuple[int, ...]:
        """Return the nodes that are computed, in this order: inputs, zeros, sums."""
        return (*sorted(self.preprocess), *self.zeros, *dict.fromkeys(edge[1] for edge in self.edges))

    @property
    def stride(self) -> int:
        """Return how many times smaller the nodes behind the inputs are."""
        return 2 if self.reduction else 1


@dataclass(frozen=True)
class Blueprint:
    """The blocks of a whole network: the stem's one or two stages, the cells, and the linear head."""

    input_size: Size
    stem: tuple[Block, ...]
    cells: tuple[CellBlueprint, ...]
    num_classes: int

    @property
    def features(self) -> Feature:
        """Return the last cell's output, which is averaged over its pixels and classified."""
        return self.cells[-1].output


def blueprint(spec: Genotype, *, in_chans: int | None = None, num_classes: int | None = None) -> Blueprint:
    """Return the blueprint of a spec exactly as it stands, dead edges included; passes are the compiler's task.

    Args:
        spec: the architecture.
        in_chans: the images' channels, by default those of the spec.
        num_classes: the number of logits, by default that of the spec; 0 leaves the head out.
    """
    network = spec.network
    in_chans = network.input_size[0] if in_chans is None else in_chans
    size = network.input_size[1:]
    stem = _stem(network.stem, in_chans, network.channels)
    stages = []
    for block in stem:
        size = layers.output_size(block, size)
        stages.append(Feature(_out_channels(block), size))
    before, last = stages[0], stages[-1]
    cells, channels = [], network.channels
    for depth in range(network.depth):
        reduction = depth in network.reductions
        channels *= 2 if reduction else 1
        cells.append(_cell(spec, depth, (before, last), channels, reduction=reduction))
        before, last = last, cells[-1].output
    classes = network.num_classes if num_classes is None else num_classes
    return Blueprint(network.input_size[1:], stem, tuple(cells), classes)


def parameters(spec: Genotype) -> int:
    """Return how many parameters the compiled network has, counted without building it."""
    plan = blueprint(drop_dead_edges(spec))
    head = (plan.features.channels + 1) * plan.num_classes
    return head + sum(layers.parameters(block) for block, _ in _blocks(plan))


def multiply_adds(spec: Genotype) -> int:
    """Return the multiply-adds of the compiled network for one image, counted without building it.

    Convolutions and the head count, padded taps too; batch norms fold into convolutions and count nothing.
    """
    plan = blueprint(drop_dead_edges(spec))
    head = plan.features.channels * plan.num_classes
    return head + sum(layers.multiply_adds(block, size) for block, size in _blocks(plan))


def _stem(kind: str, in_chans: int, channels: int) -> tuple[Block, ...]:
    def conv(inputs: int, outputs: int, stride: int) -> Block:
        return (Conv(inputs, outputs, (3, 3), (stride, stride)), Norm(outputs, affine=True))

    if kind == "cifar":
        return (conv(in_chans, 3 * channels, 1),)
    first = (*conv(in_chans, channels // 2, 2), Relu(), *conv(channels // 2, channels, 2))
    return (first, (Relu(), *conv(channels, channels, 2)))


def _cell(
    spec: Genotype, depth: int, inputs: tuple[Feature, Feature], channels: int, *, reduction: bool
) -> CellBlueprint:
    cell, affine = spec.cells[spec.layout[depth]], spec.network.affine
    stride = 2 if reduction else 1
    carried: dict[Edge, dict[str, Block]] = {}
    for edge, row in zip(cell.edges, cell.alpha, strict=True):
        blocks = {
            name: OPERATIONS[name].layers(channels, stride if edge[0] < 2 else 1, affine)
            for name, bit in zip(spec.operations, row, strict=True)
            if bit
        }
        if blocks:
            carried[edge] = blocks
    inner = Feature(channels, inputs[1].size)
    preprocess = {
        source: (layers.pointwise if inputs[source].size == inner.size else layers.factorized_reduction)(
            inputs[source].channels, channels, affine=affine
        )
        for source in (0, 1)
        if any(edge[0] == source for edge in carried)
    }
    fed, reading = {edge[1] for edge in carried}, {edge[0] for edge in carried}
    zeros = tuple(sorted((reading | {*cell.concat}) - fed - {0, 1}))
    output = Feature(len(cell.concat) * channels, (inner.size[0] // stride, inner.size[1] // stride))
    denoise = spec.network.denoise
    added = layers.denoising(output.channels, denoise.form) if denoise and depth in denoise.after else ()
    return CellBlueprint(inputs, preprocess, zeros, carried, cell.concat, inner, output, reduction, added)


def _blocks(plan: Blueprint) -> Iterator[tuple[Block, Size]]:
    """Yield every block with the (H, W) of its input."""
    size = plan.input_size
    for block in plan.stem:
        yield block, size
        size = layers.output_size(block, size)
    for cell in plan.cells:
        for source, block in cell.preprocess.items():
            yield block, cell.inputs[source].size
        for edge, blocks in cell.edges.items():
            for block in blocks.values():
                yield block, cell.inner.size if edge[0] < 2 else cell.output.size
        yield cell.denoise, cell.output.size


def _out_channels(block: Block) -> int:
    return next(layer.channels for layer in reversed(block) if isinstance(layer, Norm))
