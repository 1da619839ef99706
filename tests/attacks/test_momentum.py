"""The bases of MI-FGSM and of the attacks that build on it."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo.attacks import Bsr, Ssa, VmiFgsm, run
from robnet_zoo.attacks.random import Key
from tests.attacks.classifiers import EPS, small

RANDOM = {"vmi_fgsm": VmiFgsm(neighbours=2), "ssa": Ssa(spectra=2), "bsr": Bsr(shuffles=2)}


@pytest.mark.parametrize("name", RANDOM)
def test_the_views_of_an_image_depend_on_its_key_and_its_step_alone(name):
    attack, images = RANDOM[name], torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def shown(samples: list[int], steps: list[int]) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        labels = torch.zeros(len(samples), dtype=torch.long)
        rows = {"clean": images[:1].expand(len(samples), -1, -1, -1), "label": labels, "target": labels - 1}
        rows |= {"t": torch.tensor(steps), "eps": torch.full((len(samples), 1, 1, 1), EPS)}
        attack.begin(rows, [Key(0, sample, 0) for sample in samples])
        attack.query(lambda x: (seen.append(x.detach()), x.flatten(1))[1], rows)
        return torch.stack(seen, dim=1)[:, int(name == "vmi_fgsm") :]  # without the image itself

    together = shown([5, 6, 5], [0, 0, 3])
    assert torch.equal(together, torch.cat([shown([5], [0]), shown([6], [0]), shown([5], [3])]))
    views = together.flatten(0, 1).flatten(1)
    assert len(torch.unique(views, dim=0)) == len(views)  # every draw is another


def test_a_view_that_fools_does_not_end_the_attack():
    model, images = small(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    attack = Ssa(steps=4, step="8/255", spectra=1)
    outcomes = run(attack, model, images, model(images).argmax(1), eps=0.3, slots=4)
    assert [(outcome.forwards, outcome.fooled) for outcome in outcomes] == [(4, True)] * 4
