"""NI-FGSM (Lin et al., 2020), with the scaled copies of SI-NI-FGSM of the same paper if wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from robnet_zoo.attacks.attack import Rows
from robnet_zoo.attacks.momentum import Copies, ViewsAttack
from robnet_zoo.attacks.random import Draws

if TYPE_CHECKING:
    from torch import Tensor


class NiFgsm(ViewsAttack):
    """NI-FGSM (Lin et al., 2020): MI-FGSM that looks a step ahead, where the sum of gradients leads.

    scales: with 5 this is SI-NI-FGSM, whose gradient is the mean at the image, its half, its quarter and so on.
    The look ahead follows gradients of mean 1, as other code does; with the l1 norm of the paper it would be thousands
    of times shorter than a step.
    """

    kind: Literal["ni_fgsm"] = "ni_fgsm"
    scales: Copies = 1

    @property
    def default_name(self) -> str:
        return "ni_fgsm" if self.scales == 1 else "si_ni_fgsm"

    @property
    def views(self) -> int:
        return self.scales

    def view(self, x: Tensor, rows: Rows, number: int, draws: Draws) -> Tensor:
        ahead = self.decay * x[0].numel() * self.entry(x) * rows["momentum"]  # of the length of about 1
        return (x + self.step_length(rows) * ahead) / 2**number
