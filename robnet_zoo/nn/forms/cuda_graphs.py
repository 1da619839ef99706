"""A classifier whose forward and backward pass are captured as CUDA graphs and replayed, for small networks on GPUs.

There a pass takes as long as Python needs to launch its kernels. A graph launches them all at once, but it knows one
shape, and it reads and writes the same memory each time. Attacks keep the shapes of their batches: the slots that are
in use change, their number only at the end, to one of a few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from robnet_zoo.errors import ModelError

Function: TypeAlias = Callable[[Tensor], Tensor]
MOST_SHAPES = 16  # that are captured; each keeps the memory of a whole pass


class Replayed(nn.Module):
    """The same function as a classifier, replayed from graphs, one for each shape of images.

    A call without gradients is not replayed, nor are shapes after the first `MOST_SHAPES`. The gradients of an answer
    have to be asked for before the next images of the same shape come; otherwise it raises ModelError.

    Args:
        classifier: of images (N, C, H, W). Its parameters get no gradients.
        capture: returns the replay of a function of images, given images of the shape.
    """

    def __init__(
        self,
        classifier: Function,
        *,
        capture: Callable[[Function, tuple[Tensor]], Any] = torch.cuda.make_graphed_callables,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.capture = capture
        self.graphs: dict[tuple[torch.Size, torch.dtype], _Graph] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        shape = (images.shape, images.dtype)
        asked = torch.is_grad_enabled() and images.requires_grad
        if not asked or (shape not in self.graphs and len(self.graphs) >= MOST_SHAPES):
            return self.classifier(images)
        if shape not in self.graphs:
            # Not the module itself: `make_graphed_callables` would replace its forward.
            function = lambda x: self.classifier(x)  # noqa: E731
            self.graphs[shape] = _Graph(self.capture(function, (images.detach().clone().requires_grad_(),)))
        return self.graphs[shape](images)


class _Graph:
    """A graph of one shape, and how often it was replayed."""

    def __init__(self, replay: Function) -> None:
        self.replay, self.number = replay, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.number += 1
        return self.replay(_Entry.apply(images, self)).clone()  # the next replay overwrites the logits


class _Entry(torch.autograd.Function):
    """The images as they are; their gradient is copied before the next replay overwrites it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, graph: _Graph) -> Tensor:
        ctx.graph, ctx.number = graph, graph.number
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if ctx.number != ctx.graph.number:
            raise ModelError("expected gradients of the latest answer, got a call for those of an earlier one")
        return gradients[0].clone(), None
