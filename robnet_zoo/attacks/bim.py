"""The basic iterative method (Kurakin et al., 2017)."""

from __future__ import annotations

from typing import Literal

from robnet_zoo.attacks.gradient import IteratedGradientAttack


class Bim(IteratedGradientAttack):
    """Basic iterative method (Kurakin et al., 2017): PGD from the image itself."""

    kind: Literal["bim"] = "bim"

    @property
    def default_name(self) -> str:
        return f"bim{self.steps}"
