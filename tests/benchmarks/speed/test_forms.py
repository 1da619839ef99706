"""Every form of a network is timed and written down."""

from robnet_zoo.benchmarks.speed import forms as speed_benchmark


def test_speed_is_measured_for_every_form_and_written(tiny, tmp_path):
    result = speed_benchmark.measure(tiny, batch=2, rounds=1)
    result.save(tmp_path / "speed.json")
    assert speed_benchmark.SpeedResult.load(tmp_path / "speed.json") == result
    works = {(row.form, row.work) for row in result.rows}
    assert ("inference bfloat16", "gradient") in works
    assert ("naive float32", "training") in works
    assert speed_benchmark.table(result).count("\n|") == 10
