"""CellModule and Network: the module that a spec compiles to, an ordinary timm model.

Weight keys name depth, edge and operation (`cells.3.edges.0->2.sep_conv_3x3.1.weight`), whatever else the edge carries.
So the state dict of a sub-network is a subset of its supernet's, and a sub-network is a mask on the supernet's modules.
"""

# No `from __future__ import annotations` here: torch.fx copies the annotations of `forward` into the code that it
# generates, and TorchScript reads that code only if they are types, not strings.

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.classifier import create_classifier
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from robnet_zoo.core.documents import shown
from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.blueprint import Blueprint, CellBlueprint, blueprint
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.layers import Denoising, build, zero_node

MOST = 2**31 - 1  # classes or channels


def check_floating(images: Tensor) -> None:
    """Raise ModelError for images of integers, whose 0 to 255 would be taken for values in [0, 1]."""
    if not images.is_floating_point():
        raise ModelError(f"expected images of floating point in [0, 1], got {images.dtype}")


class EdgeModule(nn.ModuleDict):
    """The operations of one edge, by name; their outputs are summed."""

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = [operation(x) for operation in self.values()]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total


def check_arguments(*, num_classes: int | None = None, in_chans: int | None = None, drop_rate: float = 0.0) -> None:
    """Raise ModelError unless these can be timm's arguments of a model.

    Args:
        num_classes: 0 or more; None for the published number.
        in_chans: 1 or more; None for the published number.
        drop_rate: a share.
    """
    for name, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
        integer = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (integer and least <= value <= MOST):
            raise ModelError(f"{name}: expected an integer from {least} to {MOST:,}, got {shown(value)}")
    if not (isinstance(drop_rate, Real) and 0 <= drop_rate <= 1):
        raise ModelError(f"drop_rate: expected a share, 0 to 1, got {shown(drop_rate)}")


class CellModule(nn.Module):
    """Two inputs, a graph of operations, the concatenation of its nodes. A node that no edge leads to is zero.

    before: (N, C_before, H, W) or (N, C_before, 2H, 2W); last: (N, C_last, H, W).
    Returns (N, len(concat) * C, H, W), or half the size from a reduction cell.
    """

    def __init__(self, plan: CellBlueprint, *, shared_with: "CellModule | None" = None) -> None:
        """Make the cell's modules, or take over those of a cell to share them, `shared_with`."""
        super().__init__()
        position = {node: index for index, node in enumerate(plan.nodes)}
        self.preprocess, self.edges = nn.ModuleDict(), nn.ModuleDict()
        for source, block in plan.preprocess.items():
            self.preprocess[str(source)] = build(block) if shared_with is None else shared_with.preprocess[str(source)]
        for edge, blocks in plan.edges.items():
            shared = {} if shared_with is None else dict(shared_with.edges[str(edge)].named_children())
            self.edges[str(edge)] = EdgeModule(
                {name: build(block) if shared_with is None else shared[name] for name, block in blocks.items()}
            )
        # Of each edge, the positions of source and target among the tensors that `forward` keeps.
        self.wiring = [(position[source], position[target]) for source, target in plan.edges]
        self.zeros, self.channels, self.stride = len(plan.zeros), plan.inner.channels, plan.stride
        self.concat = [position[node] for node in plan.concat]
        self.reads_before, self.reads_last = 0 in plan.preprocess, 1 in plan.preprocess
        if shared_with is None:
            self.denoise = Denoising(plan.denoise) if plan.denoise else None
        else:
            self.denoise = shared_with.denoise

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        if self.reads_before:
            inputs.append(before)
        if self.reads_last:
            inputs.append(last)
        nodes: list[Tensor] = []
        for index, block in enumerate(self.preprocess.values()):
            nodes.append(block(inputs[index]))  # (N, C, H, W)
        if self.zeros:
            nodes += [zero_node(last, self.channels, self.stride)] * self.zeros
        for index, edge in enumerate(self.edges.values()):
            source, target = self.wiring[index]
            output = edge(nodes[source])
            if target == len(nodes):  # the first edge of its target
                nodes.append(output)
            else:
                nodes[target] = nodes[target] + output
        output = torch.cat([nodes[index] for index in self.concat], dim=1)  # (N, len(concat) * C, H, W)
        return output if self.denoise is None else self.denoise(output)


class Network(nn.Module):
    """The network of a spec, built exactly as the spec stands; `robnet_zoo.compile` rewrites the spec first.

    Images are (N, C, H, W) in [0, 1], with no further normalisation; logits are (N, num_classes).
    `num_classes` and `in_chans` replace the spec's; num_classes = 0 gives pooled features, and with global_pool = ''
    the features themselves, (N, num_features, H', W').
    """

    def __init__(
        self,
        spec: Genotype,
        *,
        num_classes: int | None = None,
        in_chans: int | None = None,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        check_arguments(num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate)
        super().__init__()
        plan = blueprint(spec, in_chans=in_chans, num_classes=num_classes)
        self.spec = spec
        self.in_chans = spec.network.input_size[0] if in_chans is None else in_chans
        self.num_features = plan.features.channels
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.feature_info = _feature_info(plan)
        self.stem = nn.ModuleList(build(block) for block in plan.stem)
        self.cells = nn.ModuleList(CellModule(cell) for cell in plan.cells)
        if plan.num_classes > 0 and not global_pool:
            raise ModelError(f"global_pool='' gives no logits: expected num_classes=0 with it, got {plan.num_classes}")
        self._set_head(plan.num_classes, global_pool)

    def _set_head(self, num_classes: int, global_pool: str) -> None:
        try:
            self.global_pool, self.classifier = create_classifier(self.num_features, num_classes, global_pool)
        except (AssertionError, AttributeError) as error:  # which timm raises for names that it does not know
            expected = "expected timm's name of a pooling, such as avg or max, or an empty text for none"
            raise ModelError(f"global_pool: {expected}, got {shown(global_pool)}") from error
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()  # 'catavgmax' doubles it

    def masked(self, spec: Genotype) -> "Network":
        """Return the sub-network of a spec with this network's own modules; nothing is copied or built.

        spec: what this network carries, or less, and nothing that its output does not depend on; see
        `robnet_zoo.nn.compiler.subnetwork`, which takes any spec.
        """
        plan = blueprint(spec, in_chans=self.in_chans, num_classes=self.num_classes)
        view = copy.copy(self)
        nn.Module.__init__(view)  # plain attributes stay; hooks and the like are new, not shared
        view.spec, view.stem = spec, self.stem
        view.cells = nn.ModuleList(
            CellModule(cell, shared_with=own)  # type: ignore[arg-type]  # a ModuleList's are Modules
            for cell, own in zip(plan.cells, self.cells, strict=True)
        )
        view.global_pool, view.classifier = self.global_pool, self.classifier
        view.training = self.training
        return view

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last cell's output for x, (N, in_chans, H, W): (N, num_features, H', W')."""
        outputs: list[Tensor] = [x]
        for stage in self.stem:
            outputs.append(stage(outputs[-1]))
        before, last = outputs[1], outputs[-1]
        for cell in self.cells:
            if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
                output = _checkpointed(cell, before, last)
            else:
                output = cell(before, last)
            before, last = last, output
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits, (N, num_classes), from (N, num_features, H', W'), or the pooled features if `pre_logits`."""
        x = self.global_pool(x)
        x = F.dropout(x, self.drop_rate, self.training)
        if not pre_logits:
            x = self.classifier(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        classifier: nn.Module = self.classifier
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Set a new head for `num_classes`; 0 removes it. global_pool: 'avg', 'max', '' for none; None keeps it."""
        check_arguments(num_classes=num_classes)
        self._set_head(num_classes, self.global_pool.pool_type if global_pool is None else global_pool)
        like = next(self.parameters())
        for module in (self.global_pool, self.classifier):
            module.to(like.device, like.dtype).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each cell in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layer groups for layer-wise learning rates: stem, each cell, head."""
        return {"stem": r"^stem", "blocks": r"^cells\.(\d+)" if not coarse else r"^cells"}


def _checkpointed(cell: nn.Module, before: Tensor, last: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler's own recomputation has no side effects
        return checkpoint(cell, before, last, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(cell)

    return checkpoint(cell, before, last, use_reentrant=False, context_fn=contexts)


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Let parts of a module change between train and eval mode; afterwards each is in its former mode."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep a module in train mode from learning running statistics, of a repeated batch or an attack's images.

    They are put back afterwards, also where the batch was not finite, and the graph is the one without this, as
    checkpointing requires.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    # Their `data`, since a later backward pass holds the buffers without reading them.
    statistics = [statistic.data for norm in norms for statistic in norm.buffers(recurse=False)]
    values = [statistic.clone() for statistic in statistics]
    try:
        yield
    finally:
        if statistics:
            torch._foreach_copy_(statistics, values)


def _feature_info(plan: Blueprint) -> list[dict[str, Any]]:
    """Return the last cell at each size, for timm's feature extraction."""
    last_of_size: dict[int, dict[str, Any]] = {}
    for depth, cell in enumerate(plan.cells):
        reduction = plan.input_size[0] // cell.output.size[0]
        last_of_size[reduction] = {
            "num_chs": cell.output.channels,
            "reduction": reduction,
            "module": f"cells.{depth}",
        }
    return list(last_of_size.values())
