"""The bases of MI-FGSM and of the attacks that build on it in order to transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robnet_zoo.attacks.attack import Classifier, Cost, Rows, Seen
from robnet_zoo.attacks.ball import steepest
from robnet_zoo.attacks.gradient import IteratedGradientAttack, Steps, loss_gradient
from robnet_zoo.attacks.losses import LOSSES
from robnet_zoo.attacks.random import Draws, Key, generators, streams
from robnet_zoo.core import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

Copies = Annotated[int, Field(ge=1, le=1000)]


class MomentumAttack(IteratedGradientAttack):
    """Base of the attacks that step along a sum of gradients (Dong et al., 2018, algorithm 1).

    The gradient, divided by its l1 norm, is added to `decay` times the sum so far; a gradient of zero adds nothing.
    """

    kind: str
    steps: Steps = 10
    decay: Annotated[float, Field(ge=0)] = 1.0

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        rows["momentum"] = torch.zeros_like(rows["clean"])

    def direction(self, rows: Rows, gradient: Tensor) -> Tensor:
        size = gradient.abs().flatten(1).sum(1)[:, None, None, None]
        normalised = torch.where((size > 0) & size.isfinite(), gradient / size, 0)
        rows["momentum"] = self.decay * rows["momentum"] + normalised
        return steepest(rows["momentum"], self.norm)


class ViewsAttack(MomentumAttack):
    """Base of the attacks that step along the mean gradient at several views of an image.

    A view does not tell whether the image itself fools the model, so every image runs its full length.
    """

    @property
    def views(self) -> int:
        """Return how many views a step looks at."""
        raise NotImplementedError

    def view(self, x: Tensor, rows: Rows, number: int, draws: Draws) -> Tensor:
        """Return what the model is shown, (N, C, H, W), by operations that have gradients.

        Args:
            x: the images, (N, C, H, W), which require a gradient.
            rows: of the attack.
            number: of the view, from 0 on.
            draws: generators of random numbers, one a row; none if the attack is not random.
        """
        raise NotImplementedError

    def entry(self, x: Tensor) -> float:
        """Return how large the entries of an image's change are whose length is 1 in the norm, if all are as large."""
        return 1.0 if self.norm == "linf" else x[0].numel() ** -0.5

    @property
    def early(self) -> bool:
        return False

    def backwards_per_step(self, num_classes: int) -> int:
        return self.views

    def cost(self, num_classes: int) -> Cost:
        backwards = super().cost(num_classes).backwards
        return Cost(backwards, backwards)

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        super().begin(rows, keys)
        if self.is_random:
            rows["stream"] = streams(keys, self.kind).to(rows["clean"].device)

    def query(self, model: Classifier, rows: Rows) -> Seen:
        looks = self.looks(model, rows)
        logits, first = next(looks)
        total = sum((gradient for _, gradient in looks), first)
        return Seen(logits, total / self.views, forwards=self.views, backwards=self.views)

    def looks(self, model: Classifier, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the answer to each view, (N, K), and the gradient of its loss by the image, (N, C, H, W)."""
        draws = [generator for generator, _ in generators(rows["stream"], rows["t"])] if self.is_random else []
        loss, label, target = LOSSES[self.loss], rows["label"], rows["target"]
        for number in range(self.views):
            shown = partial(self.view, rows=rows, number=number, draws=draws)
            gradient, logits = loss_gradient(_after(shown, model), rows["x"], loss, label, target)
            yield logits, gradient


def _after(shown: Callable[[Tensor], Tensor], model: Classifier) -> Classifier:
    return lambda x: model(shown(x))
