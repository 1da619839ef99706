"""`robnet-zoo train` and `estimate`."""

import json
import re
import shlex
from pathlib import Path

import pytest

from robnet_zoo import cli, training
from robnet_zoo.cli import main
from robnet_zoo.cli import training as command
from robnet_zoo.training import TrainingEstimate, TrainingResult
from tests.command import fails, run

DOCS = Path(__file__).parents[2]
TRAIN = re.compile(r"(?:robnet-zoo|-m robnet_zoo\.cli) (train .*)")


def documented() -> list[str]:
    """Return every `train` command in README and docs, and those that the prose of docs/training.md gives as flags."""
    pages = [(DOCS / "README.md"), *sorted((DOCS / "docs").glob("*.md"))]
    texts = [page.read_text(encoding="utf-8").replace("\\\n", " ") for page in pages]
    commands = [" ".join(text.split()) for page in texts for text in TRAIN.findall(page)]
    prose = " ".join((DOCS / "docs" / "training.md").read_text(encoding="utf-8").split())
    flags = [text for text in re.findall(r"`(--[^`]*)`", prose) if " " in text and text.count("'") % 2 == 0]
    begun = [text if "--recipe" in text else f"{text} --recipe paper" for text in flags]
    return commands + [f"train mine.json --data D -o R {text}" for text in dict.fromkeys(begun)]


@pytest.mark.parametrize("line", documented())
def test_a_documented_command_gives_a_recipe(line, monkeypatch):
    trained = []
    monkeypatch.setattr(command, "_fitted", lambda architecture, data, sign: (architecture, data))
    monkeypatch.setattr(command, "_check_names", lambda architecture, data: None)
    monkeypatch.setattr(training, "train", lambda architecture, images, recipe, *_, **__: trained.append(recipe))
    monkeypatch.setattr(training.duration, "within_minutes", lambda spec, images, recipe, minutes, **_: recipe)
    main([*shlex.split(line), "--quiet"])
    assert len(trained) == 1


@pytest.mark.parametrize("name", training.recipe_names())
def test_every_recipe_takes_another_number_of_epochs(name, monkeypatch):
    trained = []
    monkeypatch.setattr(command, "_fitted", lambda architecture, data, sign: (architecture, data))
    monkeypatch.setattr(command, "_check_names", lambda architecture, data: None)
    monkeypatch.setattr(training, "train", lambda architecture, images, recipe, *_, **__: trained.append(recipe))
    for flags in (["--epochs", "1"], ["--epochs", "30", "--schedule.kind", "linear"]):
        main(["train", "mine.json", "--data", "D", "-o", "R", "--recipe", name, "--quiet", *flags])
    assert [recipe.epochs for recipe in trained] == [1, 30]


def test_train_then_benchmark_then_export(capsys, spec_file, tmp_path):
    out = tmp_path / "run"
    common = ["--data", "digits", "--output", str(out), "--recipe", "micro_digits"]
    run(capsys, "train", str(spec_file), *common, "--epochs", "1", "--batch", "400", "--attack.steps", "1")
    assert json.loads((out / "run.json").read_text())["recipe"]["attack"]["steps"] == 1
    again = run(capsys, "train", str(spec_file), *common, "--epochs", "1", "--batch", "400", "--attack.steps", "1")
    summary, path = again.splitlines()
    assert re.fullmatch(
        r"epoch 1 of 1: [\d.]+% of 129 held-out images right, [\d.]+% under PGD-10; .* epoch ▁", summary
    )
    assert path == str(out / "model.safetensors")
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
    cli.main([*common, "--resume", "--quiet"])
    assert tuple(capsys.readouterr()) == ("", "")


def test_weights_of_another_architecture_give_what_both_have(capsys, spec_file, tmp_path):
    common = ["train", str(spec_file), "--data", "digits", "--recipe", "micro_digits", "--epochs", "1"]
    common += ["-o", str(tmp_path / "run")]
    assert "--no-strict: expected it with --weights" in fails(capsys, *common, "--no-strict")
    weights = ["--weights", "robnet_micro.cifar10"]
    assert "expected weights of" in fails(capsys, *common, *weights)
    run(capsys, *common, *weights, "--no-strict", "--quiet")
    begun = TrainingResult.load(tmp_path / "run" / "training.json").begun_with
    assert begun is not None
    assert (begun.name, begun.strict) == ("robnet_micro.cifar10.safetensors", False)


def test_a_run_lasts_the_minutes_that_it_is_given_and_goes_on_for_as_long(capsys, spec_file, tmp_path, monkeypatch):
    common = ["train", str(spec_file), "--data", "digits", "--recipe", "micro_digits", "--batch", "400"]
    common += ["--attack.steps", "0", "--validation", "0", "--output", str(tmp_path / "run")]
    assert "without --epochs" in fails(capsys, *common, "--minutes", "1", "--epochs", "2")
    asked = []

    def within_minutes(spec, images, recipe, minutes, *, progress):
        asked.append(minutes)
        return recipe.lasting(3)

    monkeypatch.setattr(training.duration, "within_minutes", within_minutes)
    for _ in range(2):
        run(capsys, *common, "--minutes", "1.5")
    assert asked == [1.5]  # once: the second run goes on with the first
    assert len(TrainingResult.load(tmp_path / "run" / "training.json").epochs) == 3


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
