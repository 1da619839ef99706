"""BIM on a model whose boundary is known."""

from __future__ import annotations

import pytest

from robnet_zoo.attacks import Bim, run
from robnet_zoo.core.units import in_image_units
from tests.attacks.classifiers import Opposites, greys


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bim_takes_exactly_the_steps_that_the_boundary_is_away(norm):
    model, images = Opposites(), greys(20)
    step = {"linf": "1/255", "l2": "6/255"}[norm]
    steps_needed = model.distances(images, norm) / in_image_units(step)
    clear = (steps_needed - steps_needed.round()).abs() > 0.02
    images, needed = images[clear], steps_needed[clear].ceil().int().tolist()
    attack = Bim(steps=max(needed), step=step, norm=norm)
    outcomes = run(attack, model, images, model.labels(images), eps=1.0, slots=7)
    assert [outcome.step for outcome in outcomes] == needed
    assert len(set(needed)) > 3
