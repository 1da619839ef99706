"""Attacks: images in [0, 1] in, adversarial images in the same ball and box out."""

from robnet_zoo.attacks.gradient import fgsm, n_fgsm, pgd

__all__ = ["fgsm", "n_fgsm", "pgd"]
