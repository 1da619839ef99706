"""Attacks: images in [0, 1] in, adversarial images in the same ball and box out."""

from typing import Annotated, get_args

from pydantic import Field

from robnet_zoo.attacks.apgd import Apgd
from robnet_zoo.attacks.attack import Attack, BatchAttack, Classifier, Cost, IterativeAttack
from robnet_zoo.attacks.autoattack import AutoAttack
from robnet_zoo.attacks.carlini_wagner import CarliniWagner
from robnet_zoo.attacks.continuous_batching import craft, run
from robnet_zoo.attacks.deepfool import DeepFool
from robnet_zoo.attacks.gradient import Bim, Fgsm, MiFgsm, Pgd, fgsm, n_fgsm, pgd
from robnet_zoo.attacks.outcome import BatchOutcome, Outcome
from robnet_zoo.attacks.square import Square
from robnet_zoo.errors import AttackError

AnyAttack = Annotated[
    Fgsm | Bim | Pgd | MiFgsm | Apgd | DeepFool | CarliniWagner | Square | AutoAttack, Field(discriminator="kind")
]
"""Every attack that a protocol may name, told apart by its `kind`."""

ATTACKS: tuple[type[Attack], ...] = get_args(get_args(AnyAttack)[0])
"""The classes of `AnyAttack`, in the order of its entries."""

__all__ = [
    "ATTACKS",
    "AnyAttack",
    "Apgd",
    "Attack",
    "AttackError",
    "AutoAttack",
    "BatchAttack",
    "BatchOutcome",
    "Bim",
    "CarliniWagner",
    "Classifier",
    "Cost",
    "DeepFool",
    "Fgsm",
    "IterativeAttack",
    "MiFgsm",
    "Outcome",
    "Pgd",
    "Square",
    "craft",
    "fgsm",
    "n_fgsm",
    "pgd",
    "run",
]
