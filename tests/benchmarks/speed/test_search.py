"""Both ways to a candidate's network are timed and give the same distances."""

import pytest

from robnet_zoo.benchmarks.speed import search as search_speed


def test_search_speed_is_measured_for_both_ways_to_the_same_distances(tiny, tmp_path):
    result = search_speed.measure(tiny, images=2, steps=1, rounds=1)
    result.save(tmp_path / "speed.json")
    assert search_speed.SearchSpeedResult.load(tmp_path / "speed.json") == result
    assert result.largest_difference == 0
    mask, built = result.ways
    assert built.network_ratio == 1
    assert mask.network_ratio == pytest.approx(built.network_seconds[0] / mask.network_seconds[0], rel=0.2)
    assert search_speed.table(result).count("\n| ") == 3
