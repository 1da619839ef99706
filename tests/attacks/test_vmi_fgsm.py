"""VMI-FGSM's neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from robnet_zoo.attacks import MiFgsm, VmiFgsm, run
from tests.attacks.classifiers import EPS, Opposites, far, greys


def test_where_gradients_are_the_same_everywhere_it_is_mi_fgsm():
    model = Opposites()
    images = far(model, 4)
    labels = model.labels(images)
    ours, plain = (
        run(attack, model, images, labels, eps=EPS, slots=4, early=False)
        for attack in (VmiFgsm(steps=4, neighbours=2, loss="margin"), MiFgsm(steps=4, loss="margin"))
    )
    for tuned, straight in zip(ours, plain, strict=True):
        assert torch.equal(tuned.image, straight.image)


def test_neighbours_fill_the_cube_around_the_image():
    shown: list[Tensor] = []
    model = Opposites()
    images = greys(2)
    attack = VmiFgsm(steps=1, neighbours=20, radius=3.0)
    run(attack, lambda x: (shown.append(x.detach()), model(x))[1], images, model.labels(images), eps=0.05, slots=2)
    distances = (torch.stack(shown[2:-1]) - shown[1]).abs().flatten()  # between the image's and the judge's look
    assert distances.max() <= 0.15
    assert distances.max() > 0.148
    assert abs(float(distances.mean()) - 0.075) < 0.005
