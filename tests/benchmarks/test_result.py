"""A results document holds every outcome and is read again, also if it is older."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from robnet_zoo import data
from robnet_zoo.attacks import Bim, Fgsm
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result, measured, results_in
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import DocumentError
from tests.benchmarks.grey_images import WHITE_BOX
from tests.brightness import Brightness
from tests.reports.documents import example, identity, in_turn, result
from tools import committed


def test_the_worst_case_counts_an_image_that_any_attack_fools():
    class First(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1], 0 * x[:, 0, 0, 0]], dim=1)

    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[0, 0, 0] = torch.tensor([140, 120, 0, 0])
    pixels[1, 0, 0] = torch.tensor([130, 120, 0, 0])
    images = data.Images(pixels, torch.zeros(2, dtype=torch.long), "two")
    protocol = Protocol(name="two", attacks=(Fgsm(), Bim(steps=1, step="1/255")))
    result = evaluate(of_module(First(), name="first"), images, protocol, progress=False)
    assert result.measurement("bim1").correct == (1, 1)
    assert result.measurement("worst_case").correct == result.measurement("fgsm").correct == (1, 0)


def test_a_worst_case_that_its_attacks_do_not_give_is_refused(grey):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    better = measured("worst_case", (1,) * len(result.worst_case.correct), seconds=1.0)
    with pytest.raises(DocumentError, match=r"worst_case\.correct: expected 1 for the images that"):
        result.model_copy(update={"worst_case": better})


WRONG = {
    "images left out": (lambda part: part | {"correct": part["correct"][:2], "accuracy": 1.0}, "expected"),
    "an interval of its own": (lambda part: part | {"interval": [0.9, 0.95]}, "Wilson's, got"),
    "another attack": (
        lambda part: part | {"attack": "foo"},
        "expected clean, fgsm, pgd20, each once, got clean, foo, pgd20",
    ),
    "an attack twice": (lambda part: part | {"attack": "pgd20"}, "each once, got clean, pgd20, pgd20"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_measurements_that_are_not_those_of_the_protocol_and_the_data_are_refused(mistake, grey):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    document = result.model_dump(mode="json", exclude={"worst_case", "examples"})
    change, problem = WRONG[mistake]
    clean, attacked, *others = document["measurements"]
    with pytest.raises(DocumentError, match=problem):
        Result.parse(document | {"measurements": [clean, change(attacked), *others]})


def test_what_attacks_in_turn_cost_is_known_of_all_or_of_none():
    document = in_turn(result("model"))
    clean, first, last = document.measurements
    for fields in ({"forwards": ()}, {"forwards": (), "backwards": (), "judged": ()}):
        with pytest.raises(DocumentError, match="measurements: expected forwards of all attacks in turn or of none"):
            document.model_copy(update={"measurements": (clean, first, last.model_copy(update=fields))})
    parts = [part.model_copy(update=fields) for part in (first, last)]
    assert not document.model_copy(update={"measurements": (clean, *parts)}).in_turn[0].forwards


@pytest.mark.parametrize("field", ["sample", "label", "before", "after"])
def test_an_example_has_no_negative_class(field):
    with pytest.raises(DocumentError, match=f"{field}: expected at least 0, got -1"):
        example().model_copy(update={field: -1})


def test_a_model_has_no_negative_number_of_parameters():
    with pytest.raises(DocumentError, match="parameters: expected at least 0, got -1"):
        identity("model").model_copy(update={"parameters": -1})


def test_a_document_cannot_be_of_fewer_images_than_its_data(grey):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    document = result.model_dump(mode="json", exclude={"worst_case", "examples"})
    document["data"]["n"] = 500
    with pytest.raises(DocumentError, match="measurements: expected 500 images, got 56 under clean"):
        Result.parse(document)
    with pytest.raises(DocumentError, match="each once, got none"):
        Result.parse(document | {"measurements": []})


def test_a_result_survives_its_file(grey, tmp_path):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    result.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == result


def test_a_result_prints_as_alarms_and_a_line_for_each_attack(grey):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    alarms = [f"ALARM {alarm.name}: {alarm.text}" for alarm in result.alarms]
    first, *lines = str(result).splitlines()
    assert first == f"brightness: white_box, eps {WHITE_BOX.eps}, grey"
    assert lines[: len(alarms)] == alarms
    assert [line.split()[0] for line in lines[len(alarms) :]] == ["attack", "clean", "fgsm", "pgd20", "worst_case"]


def test_older_results_are_read_with_the_hash_that_they_have() -> None:
    stated = Result.load(committed.ROBUSTNESS / "robnet_micro.digits.json")
    older = stated.model_dump(mode="json", exclude_none=True) | {"schema_version": 2}
    older["model"]["weights_sha256"] = older["model"].pop("state_sha256")
    older["model"].pop("file_sha256")
    assert Result.parse(older).model == stated.model.model_copy(update={"file_sha256": None})
    older["model"]["kind"] = "onnx"
    assert Result.parse(older).model.file_sha256 == stated.model.state_sha256


def test_the_results_of_a_folder_are_among_any_other_json(tmp_path) -> None:
    shutil.copy(committed.ROBUSTNESS / "robnet_micro.digits.json", tmp_path / "b.json")
    other = {
        "a.json": "[NaN]",
        "c.json": "",
        "d.json": "{} {}",
        "e.json": "{}",
        "f.json": '{"a": 1, "a": 2}',
        "g.json": "// no",
    }
    for name, text in other.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "h.json").mkdir()
    os.mkfifo(tmp_path / "i.json")
    shutil.copy(tmp_path / "b.json", tmp_path / "j.JSON")
    errors: list[DocumentError] = []
    assert results_in(tmp_path, pass_over=errors.append) == [tmp_path / "b.json", tmp_path / "j.JSON"]
    assert "".join(Path(error.source).stem for error in errors) == "acdfghi"
