"""ONNX Runtime is timed beside torch."""

from robnet_zoo.benchmarks.speed import onnx as onnx_speed


def test_onnx_runtime_is_timed_beside_torch_and_written(tiny, tmp_path):
    result = onnx_speed.measure(tiny, batches=(1, 9), rounds=1)
    result.save(tmp_path / "speed.json")
    assert onnx_speed.OnnxSpeedResult.load(tmp_path / "speed.json") == result
    speeds = {(row.form, row.batch): row for row in result.rows}
    assert len(speeds) == 8
    assert all(row.images_per_second > 0 for row in result.rows)
    assert speeds[onnx_speed.NAIVE, 9].to_naive == speeds[onnx_speed.FP32, 1].to_fp32 == 1
    assert [(file.precision, file.proved) for file in result.files] == [("fp32", True), ("int8", False)]
    lines = onnx_speed.table(result).splitlines()
    assert lines[2] == "| form | batch 1 | batch 9 |"
    assert lines[-1].startswith("int8 against fp32: ")
