"""`robnet-zoo train` and `estimate`."""

import json

from robnet_zoo.training import TrainingEstimate
from tests.command import fails, run


def test_train_then_benchmark_then_export(capsys, spec_file, tmp_path):
    out = tmp_path / "run"
    common = ["--data", "digits", "--output", str(out), "--recipe", "micro_digits"]
    run(capsys, "train", str(spec_file), *common, "--epochs", "1", "--batch", "400", "--attack.steps", "1")
    assert json.loads((out / "run.json").read_text())["recipe"]["attack"]["steps"] == 1
    weights = ["--weights", str(out / "model.safetensors")]
    document = run(capsys, "benchmark", str(spec_file), *weights, "--data", "digits", "-n", "30", "--json")
    result = json.loads(document)
    assert result["data"]["n"] == 30
    assert [m["attack"] for m in result["measurements"]] == ["clean", "fgsm", "pgd10", "pgd10_margin"]
    assert "logits within" in run(capsys, "export", str(spec_file), *weights, "-o", str(tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").exists()


def test_checkpoints_are_written_and_kept_as_flags_say_and_a_run_resumes(capsys, spec_file, tmp_path):
    common = ["train", str(spec_file), "--data", "digits", "--recipe", "micro_digits", "--epochs", "2"]
    common += ["--batch", "200", "--attack.steps", "0", "--validation", "0", "--output", str(tmp_path / "run")]
    assert "expected the folder of a run to resume" in fails(capsys, *common, "--resume")
    run(capsys, *common, "--checkpoint-updates", "2", "--checkpoint-seconds", "1000", "--checkpoints", "4")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == [f"{updates:010}.pt" for updates in (5, 6, 8, 10)]  # 5 an epoch
    assert run(capsys, *common, "--resume") == f"{tmp_path / 'run' / 'model.safetensors'}\n"


def test_estimate_prints_and_writes_how_long_training_takes(capsys, spec_file, tmp_path):
    out = tmp_path / "estimate.json"
    common = ["--data", "digits", "--recipe", "micro_digits", "--batch", "400", "--attack.steps", "1"]
    table = run(capsys, "estimate", str(spec_file), *common, "--updates", "1", "-o", str(out))
    estimate = TrainingEstimate.load(out)
    assert (estimate.recipe.batch, estimate.recipe.attack.steps) == (400, 1)
    assert table.splitlines()[-1] == f"| together | {estimate.recipe.epochs} | | {estimate.hours:.1f} |"
    again = TrainingEstimate.parse(
        json.loads(run(capsys, "estimate", str(spec_file), *common, "--updates", "1", "--json"))
    )
    assert again.recipe == estimate.recipe
