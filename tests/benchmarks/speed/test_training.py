"""Both training loops are timed and written down."""

import pytest

from robnet_zoo.benchmarks.speed import training as training_speed


def test_training_speed_is_measured_for_both_loops_and_written(tiny, tmp_path):
    result = training_speed.measure(tiny, steps=1, batch=2, rounds=1)
    result.save(tmp_path / "speed.json")
    assert training_speed.TrainingSpeedResult.load(tmp_path / "speed.json") == result
    plain, ours = result.loops
    assert (plain.ratio, ours.ratio) == (1.0, pytest.approx(plain.seconds[0] / ours.seconds[0], abs=0.01))
