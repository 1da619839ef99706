"""`robnet-zoo benchmark` and `report` as they are typed."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from robnet_zoo import cli, data
from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.benchmarks.exports import ExportedForm, ExportsResult
from robnet_zoo.benchmarks.journal import Journal
from robnet_zoo.benchmarks.protocol import PROTOCOLS, Protocol
from robnet_zoo.benchmarks.result import Alarm, Result
from robnet_zoo.cli import benchmark
from robnet_zoo.nn.compiler import compile
from tests.command import fails, run
from tests.fitted import EPS
from tests.reports.documents import result

DIGITS = "robnet_micro.digits"
COMMON = ("--data", "digits", "-n", "24", "--eps", EPS, "--batch", "8")  # some images withstand


@pytest.fixture
def white_box(tmp_path) -> Path:
    path = tmp_path / "protocols" / "short.json"
    path.parent.mkdir(exist_ok=True)
    Protocol(name="short", attacks=(Fgsm(), Pgd(steps=4, step="8/255"))).save(path)
    return path


@pytest.fixture
def transfer(tmp_path) -> Path:
    path = tmp_path / "protocols" / "through.json"
    path.parent.mkdir(exist_ok=True)
    Protocol(name="through", threat="transfer", attacks=(Pgd(steps=4, step="8/255"),)).save(path)
    return path


def without_times(path: Path) -> dict:
    document = json.loads(path.read_text())
    for measurement in [*document["measurements"], document["worst_case"]]:
        del measurement["seconds"]
    return document


@pytest.mark.slow  # a process imports torch
@pytest.mark.same_bits
def test_shards_are_measured_and_merged(fitted, capsys, white_box, tmp_path):
    common = ("benchmark", fitted, *COMMON, "--protocol", white_box)
    parts = [tmp_path / f"part{index}.json" for index in range(3)]
    for index, part in enumerate(parts):
        run(capsys, *common, "--shard", f"{index}/3", "-o", part)
    whole, merged = tmp_path / "whole.json", tmp_path / "merged.json"
    printed = run(capsys, *common, "-o", whole)
    assert run(capsys, "benchmark", "merge", *parts, "-o", merged) == printed.replace(str(whole), str(merged))
    assert without_times(merged) == without_times(whole)
    assert "expected each of the shards 0 to 2 once" in fails(capsys, "benchmark", "merge", parts[0], "-o", merged)


def test_every_source_attacks_every_target_into_a_folder(fitted, capsys, transfer, tmp_path):
    matrix, exported = tmp_path / "matrix", tmp_path / "m.onnx"
    run(capsys, "export", fitted, "-o", exported)
    documents = json.loads(
        run(capsys, "benchmark", fitted, exported, *COMMON, "--protocol", transfer, "-o", matrix, "--json")
    )
    pairs = [(document["source"]["kind"], document["model"]["kind"]) for document in documents]
    assert pairs == [("torch", "torch"), ("torch", "onnx"), ("onnx", "torch"), ("onnx", "onnx")]
    written = sorted(matrix.iterdir())
    assert len(written) == 4
    for path in written:
        (_, pgd) = Result.load(path).measurements
        assert pgd.forwards == pgd.backwards == (4,) * 24  # of the source, which every image goes through in full
        assert pgd.tries == pgd.judged == (1,) * 24
    page = tmp_path / "report.html"
    (matrix / "other.json").write_text('{"neither": "a result"}')  # which would be an error if it were read as one
    run(capsys, "report", matrix, "-o", page)
    assert page.read_text().replace("<wbr>", "").count(fitted) >= 4


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
def test_results_are_reported_in_each_form(fitted, capsys, suffix, white_box, tmp_path):
    result, page = tmp_path / "result.json", tmp_path / f"report{suffix}"
    run(capsys, "benchmark", fitted, *COMMON, "--protocol", white_box, "-o", result)
    assert run(capsys, "report", result, "-o", page) == f"{page}\n"
    assert fitted in page.read_text().replace("<wbr>", "")


def test_a_measurement_ends_with_a_table_of_intervals_drawn_to_scale(fitted, capsys, white_box, tmp_path):
    few = ("--data", "digits", "-n", "6", "--eps", "1/2", "--batch", "6")
    command = ("benchmark", fitted, *few, "--protocol", white_box, "-o", tmp_path / "result.json")
    head, *rows, path = run(capsys, *command).splitlines()[-6:]
    assert path == str(tmp_path / "result.json")
    assert head.split() == ["attack", "accuracy", "95", "%", "interval", "images", "0", "%", "100", "%"]
    for measurement, row in zip([*Result.load(command[-1]).measurements, None], rows, strict=True):
        drawn = row[head.index("0 %") :]
        assert re.fullmatch(r" *(\[-*)?\|(-*\])?", drawn)
        if measurement is not None:
            assert row.split()[:2] == [measurement.attack, f"{measurement.accuracy:.2%}"]
            assert drawn.index("|") == round(measurement.accuracy * 31)
    cli.main([*map(str, command), "--quiet"])
    assert tuple(capsys.readouterr()) == ("", "")
    json.loads(run(capsys, *command, "--quiet", "--json"))


def test_transfer_and_square_reach_an_exported_file(fitted, capsys, tmp_path):
    path = str(tmp_path / "m.onnx")
    run(capsys, "export", fitted, "-o", path)
    common = ["--data", "digits", "-n", "12", "--eps", "32/255", "--batch", "12", "--json"]
    protocol = json.loads(PROTOCOLS.path("square").read_text())
    protocol["attacks"][0]["queries"] = 30
    (tmp_path / "square.json").write_text(json.dumps(protocol))
    square = json.loads(run(capsys, "benchmark", path, "--protocol", str(tmp_path / "square.json"), *common))
    assert [measurement["attack"] for measurement in square["measurements"]] == ["clean", "square"]
    source = ["--protocol", "table2", "--source", fitted]
    transfer = json.loads(run(capsys, "benchmark", path, *source, *common))
    assert transfer["source"]["kind"] == "torch"
    assert transfer["model"]["kind"] == "onnx"


def test_a_report_of_nothing_is_refused(capsys, tmp_path):
    empty, page = tmp_path / "empty", tmp_path / "report.md"
    empty.mkdir()
    assert f"{empty}: expected results documents, got none" in fails(capsys, "report", empty, "-o", page)
    assert not page.exists()


def test_a_source_has_weights_of_its_own(fitted, another, capsys, transfer, tmp_path):
    spec, weights, others = f"{fitted}/spec.json", f"{fitted}/model.safetensors", f"{another}/model.safetensors"
    common = ("benchmark", spec, *COMMON, "--weights", weights, "--protocol", transfer, "--json")
    same = json.loads(run(capsys, *common, "--source", spec))
    assert "(a white box, as its weights are the same)" in run(capsys, *common[:-1], "--source", spec)
    other = json.loads(run(capsys, *common, "--source", spec, "--source-weights", others))
    assert same["source"]["state_sha256"] == same["model"]["state_sha256"]
    assert other["source"]["state_sha256"] != other["model"]["state_sha256"]
    assert other["model"] == same["model"]
    shifted = ("--source-mean", "0.5", "--source-mean", "0.5", "--source-mean", "0.5")
    shifted += ("--source-std", "2", "--source-std", "2", "--source-std", "2")
    moved = json.loads(run(capsys, *common, "--source", spec, "--source-weights", weights, *shifted))
    assert (moved["source"]["mean"], moved["source"]["std"]) == ([0.5] * 3, [2.0] * 3)
    assert "mean" not in moved["model"]
    assert "expected one --source with them, got 0" in fails(capsys, *common, "--source-weights", weights)


def test_training_images_raise_an_alarm_wherever_they_are_measured(capsys, tiny, white_box, tmp_path):
    # The alarm goes from the training run to the printed line, even if only the first images are measured.
    spec, out, file = tmp_path / "tiny.json", tmp_path / "run", tmp_path / "digits.npz"
    tiny.save(spec)
    scans = data.digits()[0]
    np.savez(file, images=scans.pixels.permute(0, 2, 3, 1).numpy(), labels=scans.labels.numpy())
    options = ["--epochs", "1", "--batch", "512", "--attack.steps", "1", "--validation", "0"]
    run(capsys, "train", spec, "--data", file, "--recipe", "micro_digits", *options, "-o", out)
    common = ("benchmark", out, "--protocol", white_box, "-n", "24", "--batch", "8")
    assert "ALARM trained_on_test: 24 of 24 images" in run(capsys, *common, "--data", file)
    assert "trained_on_test" not in run(capsys, *common, "--data", "digits")


def test_what_merely_counts_is_a_note_above_the_table_of_exports():
    alarms = (Alarm(name="zero_gradients", text="5 images"), Alarm(name="unconfirmed", text="1 of 2"))
    measured = result("model", alarms=alarms)
    form = ExportedForm(form="torch", model=measured.model, bytes=4_000_000)
    written = ExportsResult(
        model=measured.model, data=measured.data, rounds=9, software={}, device="a processor", forms=(form,)
    )
    lines = benchmark._exports_summary(written, [measured]).splitlines()
    assert lines[:2] == ["ALARM zero_gradients: model: 5 images", "note unconfirmed: model: 1 of 2"]


def test_a_report_passes_over_exports_that_cannot_be_read(capsys, tmp_path):
    result("model").save(tmp_path / "model.json")
    (tmp_path / "broken.exports.json").write_text("{")
    (tmp_path / "folder.exports.json").mkdir()
    cli.main(["report", str(tmp_path), "-o", str(tmp_path / "report.md")])
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(".exports.json: ")[0] for line in told if "passed over" in line] == [
        f"passed over: {tmp_path / name}" for name in ("broken", "folder")
    ]
    assert (tmp_path / "report.md").exists()


def test_exports_with_a_form_twice_are_told_in_a_line(capsys, tmp_path):
    measured = result("model")
    measured.save(tmp_path / "model.json")
    form = ExportedForm(form="torch", model=measured.model, bytes=4_000_000)
    written = ExportsResult(
        model=measured.model, data=measured.data, rounds=9, software={}, device="a processor", forms=(form,)
    ).model_dump(mode="json", exclude_none=True)
    (tmp_path / "model.exports.json").write_text(json.dumps(written | {"forms": written["forms"] * 2}))
    expected = "model.exports.json: forms: expected torch, then files, each once, got torch, torch"
    assert expected in fails(capsys, "report", tmp_path, "-o", tmp_path / "report.md")


@pytest.mark.same_bits
def test_ctrl_c_leaves_a_readable_part_from_which_the_same_command_goes_on(
    fitted, capsys, white_box, tmp_path, monkeypatch
):
    output, undisturbed = tmp_path / "result.json", tmp_path / "undisturbed.json"
    command = ("benchmark", fitted, *COMMON, "--protocol", white_box)
    run(capsys, *command, "-o", undisturbed)
    real = Journal.add

    def add(journal: Journal, entry: dict[str, object]) -> None:
        real(journal, entry)
        if len(journal.entries) == 25:  # everything clean and one attacked image are written down
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Journal, "add", add)
    with pytest.raises(SystemExit) as exit:
        run(capsys, *command, "-o", output)
    monkeypatch.undo()
    assert exit.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("robnet-zoo: interrupted; ")
    part = Result.load(output)
    assert not part.complete
    assert len(part.measurement("clean").correct) == 24
    assert [measurement.attack for measurement in part.measurements] == ["clean"]  # one image says little
    run(capsys, *command, "-o", output)
    assert without_times(output) == without_times(undisturbed)


def test_exports_are_measured_beside_their_model_and_reported(capsys, tiny, white_box, tmp_path):
    folder, spec, weights = (tmp_path / name for name in ("exports", "tiny.json", "tiny.safetensors"))
    tiny.save(spec)
    save_file(compile(tiny).state_dict(), weights)
    command = ("benchmark", spec, "--weights", weights, "--data", "digits", "-n", "6", "--batch", "6")
    command += ("--exports", "fp32,fp16")
    command += ("--protocol", white_box, "-o", folder)
    alarms, table = run(capsys, *command).split("\n\n")[:2]
    assert alarms.startswith("ALARM ")  # of random weights
    _, head, *rows = table.splitlines()
    assert head.split()[:2] == ["form", "MB"]
    assert [row.split()[0] for row in rows] == ["torch", "fp32", "fp16"]
    written = json.loads(run(capsys, *command, "--json"))
    assert [form["form"] for form in written["exports"]["forms"]] == ["torch", "fp32", "fp16"]
    assert [result["model"]["kind"] for result in written["results"]] == ["torch", "onnx", "onnx"]
    page = tmp_path / "report.md"
    run(capsys, "report", folder, "-o", page)
    assert "## Exports" in page.read_text()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--exports", "fp32"], "--output: expected a folder"),
        (["--exports", "fp64", "-o", "x"], "fp64"),
        (["--exports", "fp32", "-o", "x", "--shard", "0/2"], "--exports: expected a single process"),
        (["--exports", "fp32", "-o", "x", "--protocol", "table2"], "--exports: expected a white box, got table2"),
        (["--exports", "int8", "-o", "x", "-n", "500"], "--calibrate: expected images to calibrate int8 on"),
        (["--calibrate", "digits"], "--calibrate: expected --exports with int8, got none"),
    ],
)
def test_what_does_not_go_together_with_exports_is_refused(capsys, flags, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("benchmark", DIGITS, "--data", "digits")
    source = ("--source", "robnet_micro.cifar10") if "table2" in flags else ()
    assert expected in fails(capsys, *common, *source, *flags)
    assert not (tmp_path / "x").exists()
