"""Scales: the same plan at a fraction."""

from __future__ import annotations

from fractions import Fraction

import pytest

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.errors import DocumentError
from robnet_zoo.reproduce.scale import SCALES, Scale, load_scale
from robnet_zoo.training import Stage, load_recipe
from robnet_zoo.zoo.architecture import load_architecture


def test_every_bundled_scale_says_what_it_is() -> None:
    assert SCALES.names() == ["full", "small"]
    assert load_scale("full").whole
    assert str(load_scale("full")) == "At full scale."
    text = str(load_scale("small"))
    for key, value in load_scale("small").fractions.items():
        assert f"{key} {value}" in text


def test_full_scale_changes_nothing_but_seed_and_number_of_images() -> None:
    scale, recipe, protocol = Scale(), load_recipe("paper"), load_protocol("table1")
    assert scale.recipe(recipe, seed=3) == recipe.model_copy(update={"seed": 3})
    assert scale.protocol(protocol, n=7) == protocol.model_copy(update={"n": 7})
    spec = load_architecture("robnet_free")
    assert scale.architecture(spec).hash == spec.hash


def test_a_fraction_is_taken_of_epochs_milestones_sizes_and_eps() -> None:
    scale = Scale(epochs=0.05, size=0.5, eps="1/2")
    recipe = scale.recipe(load_recipe("paper"), seed=0)
    assert (recipe.epochs, recipe.schedule.milestones) == (10, (5.0, 7.5))
    assert (Fraction(recipe.attack.eps), Fraction(recipe.attack.step)) == (Fraction(4, 255), Fraction(1, 255))
    stages = (Stage(size=16, epochs=4), Stage(size=24, epochs=4))
    fast = load_recipe("fast").model_copy(update={"epochs": 11, "stages": stages})
    for share, expected in ((0.5, [(8, 2), (12, 2)]), (0.05, []), (0.2, [(8, 1)]), (0.25, [(8, 1), (12, 1)])):
        scaled = Scale(epochs=share, size=0.5).recipe(fast, seed=0)
        assert [(stage.size, stage.epochs) for stage in scaled.stages] == expected
    protocol = scale.protocol(load_protocol("table1"), n=10)
    assert Fraction(protocol.eps) == Fraction(4, 255)
    assert {Fraction(attack.step) for attack in protocol.attacks if hasattr(attack, "step")} == {Fraction(1, 255)}


@pytest.mark.parametrize("wrong", [{"width": 0}, {"epochs": 1.5}, {"eps": "0"}, {"eps": "half"}, {"colour": 1}])
def test_a_scale_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match=next(iter(wrong))):
        Scale.parse(wrong)
