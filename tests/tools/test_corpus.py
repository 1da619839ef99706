"""Files that torch's exporters make of timm's smallest networks are rebuilt as the same function."""

from pathlib import Path

import pytest
import torch

from tools import corpus
from tools.corpus import CorpusFile

SMALL = (
    "test_resnet",
    "test_byobnet",
    "test_efficientnet",
    "test_efficientnet_ln",
    "test_vit",
    "test_convnext",
    "test_convnext3",
    "test_mambaout",
    "test_nfnet",
    "test_coatnet",
    "lcnet_035",
    "mobilenetv2_035",
)
SAME = ("the same", "the same up to rounding")


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize("name", SMALL)
def test_a_file_of_the_older_exporter_has_the_modules_logits_and_gradients(name: str, tmp_path: Path) -> None:
    assert corpus.measure(name, 32, "scripting", tmp_path).outcome in SAME


@pytest.mark.slow  # torch's newer exporter takes ten seconds for the smallest network
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_a_file_of_the_newer_exporter_has_the_modules_logits_and_gradients(name: str, tmp_path: Path) -> None:
    assert corpus.measure(name, 32, "dynamo", tmp_path).outcome in SAME


def test_a_difference_is_relative_to_the_largest_number_of_its_image() -> None:
    expected, got = torch.tensor([[100.0, 1.0], [0.5, 1.0]]), torch.tensor([[100.0, 2.0], [0.5, 1.02]])
    assert corpus.apart([expected], [got]) == pytest.approx(0.02)


def test_a_nudged_module_has_each_weight_within_a_step_of_float32_and_the_original_keeps_its_own() -> None:
    model = torch.nn.Linear(50, 20).requires_grad_(False)
    before = model.weight.clone()
    moved = corpus.nudged(model, seed=0).weight
    assert torch.equal(model.weight, before)
    steps = (moved - before) / (torch.nextafter(before.abs(), torch.tensor(2.0)) - before.abs())
    assert set(steps.round(decimals=1).flatten().tolist()) - {-0.5, 0.0} == {-1.0, 1.0}  # half below a power of two
    assert (moved == before).float().mean().item() == pytest.approx(1 / 3, abs=0.1)


def test_the_nearest_of_several_answers_counts_for_each_image() -> None:
    expected, got = torch.tensor([[1.0], [1.0]]), [torch.tensor([[1.5], [1.0]]), torch.tensor([[1.25], [3.0]])]
    assert corpus.apart([expected], got) == 0.25


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        ({"logits": 1e-6, "gradients": 1e-5}, "the same"),
        ({"logits": 1e-6, "gradients": 1e-3}, "gradients differ"),
        ({"logits": 1e-4, "gradients": 1e-3}, "logits differ"),
        (
            {"logits": 1e-6, "gradients": 1e-3, "nearest_logits": 1e-7, "nearest_gradients": 1e-6},
            "the same up to rounding",
        ),
        ({"logits": 1e-6, "gradients": 1e-3, "nearest_logits": 1e-7, "nearest_gradients": 1e-3}, "gradients differ"),
        ({"logits": 3e-5, "gradients": 1e-5, "rounded_logits": 1e-5, "rounded_gradients": 1e-5}, SAME[1]),
        ({"logits": 5e-5, "gradients": 1e-5, "rounded_logits": 1e-5, "rounded_gradients": 1e-5}, "logits differ"),
        ({"logits": 0.1, "gradients": 1e-5, "rounded_logits": 0.1, "rounded_gradients": 1e-5}, "logits differ"),
        ({"failed": "export"}, "not exported"),
        ({"failed": "operators"}, "an operator is missing"),
        ({"failed": "running"}, "not rebuilt"),
    ],
)
def test_the_outcome_of_a_file_follows_from_how_far_it_is(measured: dict[str, object], outcome: str) -> None:
    assert CorpusFile(architecture="test_resnet", side=32, exporter="dynamo", **measured).outcome == outcome


def test_what_a_document_has_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def bounded(name: str, side: int, exporter: corpus.Exporter) -> CorpusFile:
        asked.append((name, exporter))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return CorpusFile(architecture=name, side=side, exporter=exporter, logits=0.0, gradients=0.0)

    monkeypatch.setattr(corpus, "bounded", bounded)
    output = tmp_path / "corpus" / "timm.json"
    with pytest.raises(KeyboardInterrupt):
        corpus.main("resnet18", "test_nfnet", output=output)
    corpus.main("resnet18", "test_nfnet", output=output)
    assert asked[2:] == [("test_nfnet", "scripting"), ("test_nfnet", "scripting"), ("test_nfnet", "dynamo")]
    assert len(corpus.CorpusResult.load(output).files) == 4


def test_the_table_counts_what_was_exported_and_names_what_was_not() -> None:
    files = (
        CorpusFile(architecture="resnet18", side=64, exporter="scripting", logits=1e-6, gradients=2e-6, seconds=0.5),
        CorpusFile(architecture="resnet18", side=64, exporter="dynamo", failed="export", reason="ValueError: no"),
    )
    software = dict.fromkeys(("torch", "timm", "onnxruntime-gpu"), "1.0")
    table = corpus.table(corpus.CorpusResult(device="a processor", software=software, files=files))
    assert table.startswith("Of 2 files of 1 architecture, 1 could be exported, and 1 of these (100.0%)")
    assert "| `resnet18` | 64 | – | scripting | – | 0.5 | 1e-06 | 2e-06 | the same |" in table
    assert "not exported: ValueError: no |" in table
    assert "Not measured yet, of dynamo: `resnetv2_18`" in table
