"""Folding: a convolution and the batch norm behind it as one convolution, in float64.

`fold` gives the steps of a block after folding. The inference form and the ONNX graph are both made of these steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robnet_zoo.genotype.layers import Block, Conv, FactorizedConv, Norm
from robnet_zoo.nn.layers import FactorizedConv2d


@dataclass(frozen=True, eq=False)
class Fold:
    """A convolution and the batch norm behind it, if there is one: the source of a form's weights, in float64.

    rows: the channels of the norm that are the convolution's.
    """

    conv: nn.Conv2d
    norm: nn.Module | None
    rows: slice = field(default_factory=partial(slice, None))

    def weight(self, columns: slice = slice(None)) -> Tensor:
        """Return (out, in / groups, kH, kW): the weight of both as one convolution, for some input channels."""
        weight = self.conv.weight.detach()[:, columns].double()
        return weight if self.norm is None else weight * scale_and_shift(self.norm)[0][self.rows, None, None, None]

    def bias(self) -> Tensor | None:
        """Return (out,): the bias of both as one convolution, if there is one."""
        bias = self.conv.bias
        if self.norm is None:
            return None if bias is None else bias.detach().double()
        assert bias is None
        return scale_and_shift(self.norm)[1][self.rows]


@dataclass(frozen=True, eq=False)
class Halves:
    """A factorized convolution: its two convolutions, whose channels the norm has one after the other."""

    even: Fold
    odd: Fold


class Derived(nn.Module):
    """A part of a form, whose parameters are derived from the network's."""

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the parameters by name, from the network as it is now, in float64; None for one it lacks."""
        raise NotImplementedError

    def make(self) -> None:
        """Make the parameters, in float64."""
        for name, value in self.tensors().items():
            setattr(
                self, name, None if value is None else nn.Parameter(value.clone(memory_format=torch.contiguous_format))
            )

    def refresh(self) -> None:
        """Recompute the parameters' values in place, in their present dtype and layout."""
        for name, value in self.tensors().items():
            if value is not None:
                getattr(self, name).copy_(value)


class Affine(Derived):
    """A batch norm that no convolution before it can take: x * scale + shift, a channel. Both: (C,)."""

    scale: nn.Parameter
    shift: nn.Parameter

    def __init__(self, origin: nn.Module) -> None:
        super().__init__()
        self.origin = (origin,)  # a tuple, so that it is not registered as a submodule
        self.make()

    def tensors(self) -> dict[str, Tensor | None]:
        return dict(zip(("scale", "shift"), scale_and_shift(*self.origin), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]  # (N, C, H, W)


Step = Fold | Halves | nn.Module


def fold(block: Block, module: nn.Module) -> list[Step]:
    """Return a block's steps: convolutions with the norms behind them, other norms as `Affine`, other modules as is.

    The running statistics are used in either mode of the module.
    """
    children = [child for _, child in zip(block, module.children(), strict=True)]
    steps: list[Step] = []
    for index, inside in folded(block):
        child, norm = children[index], None if inside is None else children[inside]
        if norm is child:
            steps.append(Affine(child))
        elif isinstance(child, FactorizedConv2d):
            half = child.out_channels // 2
            steps.append(Halves(Fold(child.conv_1, norm, slice(half)), Fold(child.conv_2, norm, slice(half, None))))
        else:
            steps.append(Fold(child, norm) if isinstance(child, nn.Conv2d) else child)
    return steps


def folded(block: Block) -> Iterator[tuple[int, int | None]]:
    """Yield for each step that `fold` makes the index of its layer and of the norm folded into it, or None.

    A norm is folded into the convolution before it. A norm elsewhere is a separate step; both indices are its own.
    """
    norms = {index for index, layer in enumerate(block) if isinstance(layer, Norm)}
    inside = {index + 1 for index, layer in enumerate(block) if isinstance(layer, Conv | FactorizedConv)} & norms
    for index in range(len(block)):
        if index in norms - inside:
            yield index, index
        elif index not in inside:
            yield index, index + 1 if index + 1 in inside else None


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a batch norm in eval mode as (scale, shift) of x * scale + shift. Both: (C,), float64."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale, shift = affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return scale.detach(), shift.detach()


def affine(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Return (scale, shift) of x * scale + shift, which a batch norm of these numbers computes. All: (C,), float64."""
    scale = (variance.double() + eps).rsqrt()
    shift = -mean.double() * scale
    if weight is not None:
        scale, shift = scale * weight.double(), shift * weight.double()
    return scale, shift if bias is None else shift + bias.double()
