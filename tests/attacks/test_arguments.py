"""Images, labels and radii are taken if they can only mean one thing, and refused in one line otherwise."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from robnet_zoo.attacks import AutoAttack, CarliniWagner, Pgd, craft, fgsm, n_fgsm, pgd, run
from robnet_zoo.attacks.arguments import INTEGERS, class_numbers, radii
from robnet_zoo.errors import AttackError
from tests.attacks.classifiers import Opposites, greys

MODEL, IMAGES = Opposites(), greys(3)
LABELS = MODEL.labels(IMAGES)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_labels_of_any_integer_type_are_taken(dtype, shape):
    taken = class_numbers(LABELS.to(getattr(torch, dtype)).reshape(shape), IMAGES)
    assert (taken.dtype, taken.tolist()) == (torch.int64, LABELS.tolist())


def test_attacks_with_labels_of_other_integers_give_the_same_images():
    expected = [outcome.image for outcome in run(Pgd(steps=2), MODEL, IMAGES, LABELS, eps=0.01)]
    for labels in (LABELS.int(), LABELS.byte()[:, None]):
        images = [outcome.image for outcome in run(Pgd(steps=2), MODEL, IMAGES, labels, eps=0.01)]
        assert torch.equal(torch.stack(images), torch.stack(expected))
        assert torch.equal(fgsm(MODEL, IMAGES, labels, eps=0.1), fgsm(MODEL, IMAGES, LABELS, eps=0.1))


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (LABELS.float(), "float32 of shape (3,)"),
        (LABELS > 0, "bool of shape (3,)"),
        (torch.eye(3, dtype=torch.long), "int64 of shape (3, 3)"),
        (LABELS[:2], "int64 of shape (2,)"),
        (LABELS[None], "int64 of shape (1, 3)"),
        (np.zeros(3, dtype=int), "ndarray"),
        ([0, 1, 0], "list"),
    ],
)
def test_other_labels_are_refused_with_what_they_are(labels, got):
    generator = torch.Generator()
    expected = rf"^expected labels \(3,\) of integers, one an image, got {re.escape(got)}$"
    for attacked in (
        lambda: run(Pgd(), MODEL, IMAGES, labels, eps=0.1),
        lambda: craft(Pgd(), MODEL, IMAGES, labels, eps=0.1),
        lambda: AutoAttack().run_batch(MODEL, IMAGES, labels, eps=0.1),
        lambda: fgsm(MODEL, IMAGES, labels, eps=0.1),
        lambda: pgd(MODEL, IMAGES, labels, eps=0.1, step=0.1, steps=1, generator=None),
        lambda: n_fgsm(MODEL, IMAGES, labels, eps=0.1, step=0.1, generator=generator),
    ):
        with pytest.raises(AttackError, match=expected):
            attacked()


def test_targets_are_taken_as_labels_are():
    with pytest.raises(AttackError, match=r"expected targets \(3,\) of integers, one an image, got float32"):
        run(Pgd(), MODEL, IMAGES, LABELS, eps=0.1, targets=LABELS.float())
    with pytest.raises(AttackError, match="expected labels and targets from 0 to 3, got -1 to"):
        run(Pgd(), MODEL, IMAGES, LABELS, eps=0.1, targets=LABELS.int() * 0 - 2)


@pytest.mark.parametrize("eps", [float("nan"), -0.01, 8, 255.0, float("inf"), torch.tensor([0.1, 0.1, 8.0])])
def test_what_is_not_a_radius_is_refused(eps):
    expected = r"^expected eps in image units \(linf, such as 8/255\), from 0 to 1, got"
    for attacked in (
        lambda: run(Pgd(), MODEL, IMAGES, LABELS, eps=eps),
        lambda: craft(Pgd(), MODEL, IMAGES, LABELS, eps=eps),
        lambda: AutoAttack().run_batch(MODEL, IMAGES, LABELS, eps=eps),
    ):
        with pytest.raises(AttackError, match=expected):
            attacked()


@pytest.mark.parametrize("length", [float("nan"), -0.01, 8, "8/255"])
def test_lengths_of_the_plain_functions_are_from_0_to_1(length):
    generator = torch.Generator()
    with pytest.raises(AttackError, match=r"^expected eps in image units, such as 8/255, from 0 to 1, got"):
        fgsm(MODEL, IMAGES, LABELS, eps=length)
    with pytest.raises(AttackError, match=r"^expected step in image units"):
        pgd(MODEL, IMAGES, LABELS, eps=0.1, step=length, steps=1, generator=generator)
    with pytest.raises(AttackError, match=r"^expected step in image units"):
        n_fgsm(MODEL, IMAGES, LABELS, eps=0.1, step=length, generator=generator)


def test_a_radius_is_as_large_as_the_box_at_most():
    assert radii(1.0, IMAGES, norm="linf").tolist() == [1.0] * 3
    assert radii(Fraction(1, 4), IMAGES, norm="linf").tolist() == [0.25] * 3
    assert radii(48**0.5, IMAGES, norm="l2").tolist() == pytest.approx([48**0.5] * 3)  # from black to white
    with pytest.raises(
        AttackError, match=r"\(l2, such as 0.5\), from 0 to 6.928, got 7; a larger ball holds every image"
    ):
        radii(7, IMAGES, norm="l2")


def test_an_attack_that_looks_for_the_nearest_image_takes_any_radius_but_a_negative_one():
    attack = CarliniWagner(searches=1, steps=1)
    assert len(run(attack, MODEL, IMAGES, LABELS, eps=float("inf"))) == 3
    for eps in (float("nan"), -1.0):
        with pytest.raises(AttackError, match=r"expected eps in image units \(l2, such as 0.5\), from 0 on, got"):
            run(attack, MODEL, IMAGES, LABELS, eps=eps)


@pytest.mark.parametrize(
    ("eps", "got"),
    [("8/255", "number"), (None, "number"), (1j, "number"), (10**400, "number"), (torch.zeros(2), r"or \(3,\)")],
)
def test_what_is_not_a_number_an_image_is_refused(eps, got):
    with pytest.raises(AttackError, match=f"expected eps as a .*{got}"):
        run(Pgd(), MODEL, IMAGES, LABELS, eps=eps)


@pytest.mark.parametrize("images", [IMAGES.mul(255).byte(), IMAGES[0], IMAGES.numpy(), IMAGES * 255])
def test_images_that_are_not_floating_point_numbers_of_four_axes_in_the_box_are_refused(images):
    with pytest.raises(AttackError, match=r"^expected images"):
        run(Pgd(), MODEL, images, LABELS, eps=0.1)
    with pytest.raises(AttackError, match=r"^expected images"):
        fgsm(MODEL, images, LABELS, eps=0.1)
