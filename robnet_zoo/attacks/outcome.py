"""What an attack gives for an image, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    image: (C, H, W), the adversarial image if fooled, else the last one tried. step: how many steps had been taken when
    it was first fooled. margin: the best one seen (`losses.margin`), positive where the attack succeeded. distance: of
    `image` from the clean one. forwards, backwards: of the fast form; judged: forwards of the original.
    unconfirmed: successes that the fast form claimed and the original did not confirm, or that lay outside the ball or
    the box; they count as none.
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
