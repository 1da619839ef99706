"""What an attack gives for an image or a batch, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image.

    image: (C, H, W), the adversarial image if fooled, else the last one tried. step: how many steps had been taken when
    it was first fooled. margin: the largest one seen (`losses.margin`), positive where the attack succeeded. distance:
    from the clean image to `image`, in the norm of the attack. forwards, backwards: of the fast form. judged: forwards
    of the original. unconfirmed: successes that the fast form claimed and the original did not confirm, or that lay
    outside the ball or the box; they do not count as successes.
    """

    sample: int
    image: Tensor
    fooled: bool
    step: int | None
    margin: float
    distance: float
    tries: int
    forwards: int
    backwards: int
    judged: int
    unconfirmed: int


@dataclass(frozen=True)
class BatchOutcome:
    """The outcome of one batch of N images under an attack of whole batches.

    images: (N, C, H, W), adversarial where fooled, else the clean ones. broken_by: what fooled the model first: `clean`
    where no attack was needed, a component, or None where the image withstood. unconfirmed: where the library claimed
    a success that the model, asked again, did not confirm, or that lies outside ball or box; it does not count.
    distances: of `images` from the clean ones, in the norm of the attack. margins: of what the library gave
    (`losses.margin`). flags: names of `autoattack.FLAGS`, and the full text of other warnings. forwards, backwards:
    images of this batch that went through the model, each way. seconds: of the wall clock.
    """

    images: Tensor
    broken_by: tuple[str | None, ...]
    unconfirmed: tuple[bool, ...]
    distances: tuple[float, ...]
    margins: tuple[float, ...]
    flags: tuple[str, ...]
    forwards: int
    backwards: int
    seconds: float

    @property
    def fooled(self) -> tuple[bool, ...]:
        """Return which images the model gets wrong, N of them."""
        return tuple(name is not None for name in self.broken_by)
