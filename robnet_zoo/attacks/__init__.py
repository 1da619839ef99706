"""Attacks: images in [0, 1] in, adversarial images in the same ball and box out.

    outcomes = run(Pgd(steps=20), model, images, labels, eps=8 / 255)

A new attack is a file that defines a class derived from `IterativeAttack` or `BatchAttack`, and its entry below.
"""

from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field

from robnet_zoo.attacks.adaptive_apgd import AdaptiveApgd
from robnet_zoo.attacks.apgd import Apgd
from robnet_zoo.attacks.attack import Attack, BatchAttack, Classifier, Cost, IterativeAttack
from robnet_zoo.attacks.autoattack import AutoAttack
from robnet_zoo.attacks.bim import Bim
from robnet_zoo.attacks.bsr import Bsr
from robnet_zoo.attacks.carlini_wagner import CarliniWagner
from robnet_zoo.attacks.ddn import Ddn
from robnet_zoo.attacks.deepfool import DeepFool
from robnet_zoo.attacks.fgsm import Fgsm, fgsm, n_fgsm
from robnet_zoo.attacks.mi_fgsm import MiFgsm
from robnet_zoo.attacks.ni_fgsm import NiFgsm
from robnet_zoo.attacks.outcome import BatchOutcome, Outcome
from robnet_zoo.attacks.pgd import Pgd, pgd
from robnet_zoo.attacks.square import Square
from robnet_zoo.attacks.square_l2 import SquareL2
from robnet_zoo.attacks.ssa import Ssa
from robnet_zoo.attacks.vmi_fgsm import VmiFgsm
from robnet_zoo.core import lazy
from robnet_zoo.errors import AttackError

if TYPE_CHECKING:
    from robnet_zoo.attacks.continuous_batching import craft, run

AnyAttack = Annotated[
    Fgsm
    | Bim
    | Pgd
    | MiFgsm
    | NiFgsm
    | VmiFgsm
    | Ssa
    | Bsr
    | Apgd
    | AdaptiveApgd
    | DeepFool
    | CarliniWagner
    | Ddn
    | Square
    | SquareL2
    | AutoAttack,
    Field(discriminator="kind"),
]
"""Every attack that a protocol may name, distinguished by its `kind`."""

ATTACKS: tuple[type[Attack], ...] = get_args(get_args(AnyAttack)[0])
"""The classes of `AnyAttack`, in the order of its entries."""

__all__ = [
    # Running an attack
    "run",
    "craft",
    "Outcome",
    "Cost",
    "Classifier",
    "AttackError",
    # The attacks
    "Fgsm",
    "Bim",
    "Pgd",
    "MiFgsm",
    "NiFgsm",
    "VmiFgsm",
    "Ssa",
    "Bsr",
    "Apgd",
    "AdaptiveApgd",
    "DeepFool",
    "CarliniWagner",
    "Ddn",
    "Square",
    "SquareL2",
    "AutoAttack",
    "ATTACKS",
    "AnyAttack",
    # Plain functions for training
    "fgsm",
    "n_fgsm",
    "pgd",
    # What a new attack is built on
    "Attack",
    "IterativeAttack",
    "BatchAttack",
    "BatchOutcome",
]

__getattr__, __dir__ = lazy.face(__name__, {".continuous_batching": ("craft", "run")})
