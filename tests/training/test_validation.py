"""Measuring held-out images."""

from dataclasses import replace

from robnet_zoo import training
from tests.training.runs import assert_same_weights


def test_validation_images_do_not_change_the_weights(tiny, images, recipe, tmp_path):
    other = images.pixels.clone()
    other[108:] = 255 - other[108:]  # the held-out tenth
    first = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    second = training.train(tiny, replace(images, pixels=other), recipe, tmp_path / "b", progress=False)
    assert_same_weights(first, second)
