"""Cell and Network: the module that a spec compiles to, an ordinary timm model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robnet_zoo.blueprint import Blueprint, CellBlueprint, blueprint
from robnet_zoo.genotype import Genotype
from robnet_zoo.operations import build


class EdgeModule(nn.ModuleDict):
    """The operations of one edge, by name; their outputs are summed.

    reads, writes: the positions of source and target among the cell's tensors; starts: whether it is the target's
    first edge.
    """

    def __init__(self, operations: dict[str, nn.Module], *, reads: int, writes: int, starts: bool) -> None:
        super().__init__(operations)
        self.reads, self.writes, self.starts = reads, writes, starts

    def forward(self, x: Tensor) -> Tensor:
        outputs = [operation(x) for operation in self.values()]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total


class Cell(nn.Module):
    """Two inputs, a graph of operations, the concatenation of its nodes.

    before: (N, C_before, H, W) or (N, C_before, 2H, 2W); last: (N, C_last, H, W).
    Returns (N, len(concat) * C, H, W), or half the size from a reduction cell.
    """

    def __init__(self, plan: CellBlueprint) -> None:
        super().__init__()
        targets = dict.fromkeys(edge[1] for edge in plan.edges)
        position = {node: index for index, node in enumerate([*sorted(plan.preprocess), *targets])}
        self.preprocess = nn.ModuleDict({str(source): build(block) for source, block in plan.preprocess.items()})
        self.edges = nn.ModuleDict()
        started: set[int] = set()
        for edge, blocks in plan.edges.items():
            self.edges[str(edge)] = EdgeModule(
                {name: build(block) for name, block in blocks.items()},
                reads=position[edge[0]],
                writes=position[edge[1]],
                starts=edge[1] not in started,
            )
            started.add(edge[1])
        self.concat = [position[node] for node in plan.concat]
        self.reads_before, self.reads_last = 0 in plan.preprocess, 1 in plan.preprocess

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        if self.reads_before:
            inputs.append(before)
        if self.reads_last:
            inputs.append(last)
        nodes: list[Tensor] = []
        for index, block in enumerate(self.preprocess.values()):
            nodes.append(block(inputs[index]))  # (N, C, H, W)
        for edge in self.edges.values():
            output = edge(nodes[edge.reads])
            if edge.starts:
                nodes.append(output)
            else:
                nodes[edge.writes] = nodes[edge.writes] + output
        return torch.cat([nodes[index] for index in self.concat], dim=1)  # (N, len(concat) * C, H, W)


class Network(nn.Module):
    """The network of a spec, built exactly as the spec stands; `robnet_zoo.compile` rewrites the spec first.

    Images are (N, C, H, W) in [0, 1], with no further normalisation; logits are (N, num_classes).
    `num_classes` and `in_chans` replace the spec's; num_classes = 0 gives pooled features, and global_pool = ''
    the features themselves.
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
        super().__init__()
        plan = blueprint(spec, in_chans=in_chans, num_classes=num_classes)
        self.spec = spec
        self.num_classes = plan.num_classes
        self.in_chans = spec.network.input_size[0] if in_chans is None else in_chans
        self.num_features = self.head_hidden_size = plan.features.channels
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.feature_info = _feature_info(plan)
        self.stem = nn.ModuleList(build(block) for block in plan.stem)
        self.cells = nn.ModuleList(Cell(cell) for cell in plan.cells)
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.classifier: nn.Module = _classifier(self.num_features, self.num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the last cell's output, (N, num_features, H', W')."""
        outputs: list[Tensor] = [x]
        for stage in self.stem:
            outputs.append(stage(outputs[-1]))
        before, last = outputs[1], outputs[-1]
        for cell in self.cells:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                output = checkpoint(cell, before, last, use_reentrant=False)
            else:
                output = cell(before, last)
            before, last = last, output
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, num_features, H', W') -> (N, num_classes), or the pooled features if `pre_logits`."""
        x = self.global_pool(x)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.classifier

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head for `num_classes`; 0 removes it. global_pool: 'avg', 'max', ..., '' for none, None as it is."""
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        like = next(self.parameters())
        self.num_classes = num_classes
        self.classifier = _classifier(self.num_features, num_classes).to(like.device, like.dtype).train(self.training)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each cell in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layer groups for layer-wise learning rates: stem, each cell, head."""
        return {"stem": r"^stem", "blocks": r"^cells\.(\d+)" if not coarse else r"^cells"}


def _classifier(features: int, num_classes: int) -> nn.Module:
    return nn.Linear(features, num_classes) if num_classes > 0 else nn.Identity()


def _feature_info(plan: Blueprint) -> list[dict[str, Any]]:
    """The last cell at each size, for timm's feature extraction."""
    last_of_size: dict[int, dict[str, Any]] = {}
    for depth, cell in enumerate(plan.cells):
        reduction = plan.input_size[0] // cell.output.size[0]
        last_of_size[reduction] = {
            "num_chs": cell.output.channels,
            "reduction": reduction,
            "module": f"cells.{depth}",
        }
    return list(last_of_size.values())
