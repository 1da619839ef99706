"""The harness: its figures, its documents, and the weights whose figures the package states."""

import builtins
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from robnet_zoo import data
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.speed import forms as speed_benchmark
from robnet_zoo.benchmarks.speed import onnx as onnx_speed
from robnet_zoo.benchmarks.speed import search as search_speed
from robnet_zoo.benchmarks.speed import training as training_speed
from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import DocumentError
from robnet_zoo.nn.compiler import compile
from robnet_zoo.reports.reproduce.page import write
from robnet_zoo.reports.search import html
from robnet_zoo.reproduce.scale import load_scale
from robnet_zoo.search.config import load_config
from robnet_zoo.search.selection import picks
from robnet_zoo.training import Recipe, TrainingAttack, train
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import SPECS, load_model, load_spec, spec_names
from robnet_zoo.zoo.weights import state_sha256
from tests.interruption import interrupt_at
from tools import bundle, committed, docs

WHITE_BOX = load_protocol("white_box")
ENTRIES = weights.manifest().entries


@pytest.mark.parametrize("eps", ["0.03", "8 / 255", "-1/255", "8/", "1/0"])
def test_an_eps_that_is_no_fraction_is_refused(eps):
    with pytest.raises(DocumentError, match="eps: expected"):
        Protocol.parse(WHITE_BOX.model_dump() | {"eps": eps})


@pytest.mark.parametrize("name", [name for name in spec_names() if "imagenet" not in name])
def test_the_naive_form_is_the_same_function(name):
    spec = load_spec(name)
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4})})
    network = compile(spec).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = network(images)
    torch.testing.assert_close(naive(network, spec)(images), expected)


def test_training_speed_is_measured_for_both_loops_and_written(tiny, tmp_path):
    result = training_speed.measure(tiny, steps=1, batch=2, rounds=1)
    result.save(tmp_path / "speed.json")
    assert training_speed.TrainingSpeedResult.load(tmp_path / "speed.json") == result
    plain, ours = result.loops
    assert (plain.ratio, ours.ratio) == (1.0, pytest.approx(plain.seconds[0] / ours.seconds[0], abs=0.01))


def test_search_speed_is_measured_for_both_ways_to_the_same_distances(tiny, tmp_path):
    result = search_speed.measure(tiny, images=2, steps=1, rounds=1)
    result.save(tmp_path / "speed.json")
    assert search_speed.SearchSpeedResult.load(tmp_path / "speed.json") == result
    assert result.largest_difference == 0
    mask, built = result.ways
    assert built.network_ratio == 1
    assert mask.network_ratio == pytest.approx(built.network_seconds[0] / mask.network_seconds[0], rel=0.2)
    assert search_speed.table(result).count("\n| ") == 3


def test_speed_is_measured_for_every_form_and_written(tiny, tmp_path):
    result = speed_benchmark.measure(tiny, batch=2, rounds=1)
    result.save(tmp_path / "speed.json")
    assert speed_benchmark.SpeedResult.load(tmp_path / "speed.json") == result
    works = {(row.form, row.work) for row in result.rows}
    assert ("inference bfloat16", "gradient") in works
    assert ("naive float32", "training") in works
    assert speed_benchmark.table(result).count("\n|") == 10


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


def test_the_ten_lines_of_the_onnx_page_run_and_are_ten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", docs.ONNX.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) == 10
    exec(builtins.compile(code, "onnx.md", "exec"), {})
    report, accuracy = capsys.readouterr().out.splitlines()
    assert report.startswith("int8, ")
    assert 0.5 < float(accuracy) <= 1


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.model}.{entry.tag}")
def test_bundled_weights_have_their_results_document(entry):
    result = Result.load(committed.ROBUSTNESS / f"{entry.model}.{entry.tag}.json")
    model = load_model(f"{entry.model}.{entry.tag}")
    assert result.model.state_sha256 == state_sha256(model.state_dict())
    assert result.model.spec_hash == entry.spec_hash == load_spec(entry.model).hash
    measured = entry.measured
    assert (measured.clean, measured.fgsm, measured.pgd20) == tuple(
        result.accuracy(attack) for attack in ("clean", "fgsm", "pgd20")
    )
    for measurement in result.measurements:
        assert measurement.accuracy == sum(measurement.correct) / result.data.n


def test_the_figures_of_the_digits_weights_are_reproduced():
    stated = Result.load(committed.ROBUSTNESS / "robnet_micro.digits.json")
    images = data.digits()[1][:100]
    found = evaluate(load_target("robnet_micro.digits"), images, stated.protocol, progress=False)
    for before, now in zip(stated.measurements, found.measurements, strict=True):
        differing = sum(a != b for a, b in zip(before.correct, now.correct, strict=False))
        assert differing <= 1, now.attack  # another processor may round one image over the boundary


@pytest.fixture
def cifar_images():
    folder = os.environ.get("ROBNET_ZOO_DATA")
    if not folder:
        pytest.skip("ROBNET_ZOO_DATA does not name a folder with cifar10_test1k.npz")
    return data.load(Path(folder) / "cifar10_test1k.npz")


def test_the_clean_figure_of_the_cifar_weights_is_reproduced(cifar_images):
    stated = Result.load(committed.ROBUSTNESS / "robnet_micro.cifar10.json")
    assert cifar_images.sha256 == stated.data.sha256
    protocol = Protocol(name="clean", attacks=())
    found = evaluate(load_target("robnet_micro.cifar10"), cifar_images, protocol, progress=False)
    assert abs(found.accuracy("clean") - stated.accuracy("clean")) <= 0.001


def test_what_the_weights_of_robnet_free_say_of_fifty_images_is_reproduced(cifar_images):
    stated = Result.load(committed.ROBUSTNESS / "robnet_free.fast_cifar10.json")
    assert cifar_images.sha256 == stated.data.sha256
    model, images = load_model("robnet_free.fast_cifar10"), cifar_images[:50]
    ((pixels, labels),) = images.batches(len(images))
    with torch.no_grad():
        right = model(pixels).argmax(1) == labels
    pairs = zip(right.tolist(), stated.measurement("clean").correct[:50], strict=True)
    assert sum(now != before for now, before in pairs) <= 1  # another processor may round one over the boundary


@pytest.mark.parametrize("document", docs.TABLES, ids=lambda path: path.name)
def test_the_tables_of_the_documentation_are_current(document):
    assert docs.filled(document) == document.read_text(), "run `make docs`"


@pytest.fixture
def bundling(tmp_path):
    """(train a run on digits, bundle it): bundling gives the model card that it leads to."""
    (digits, tests), folder, results = data.digits(), tmp_path / "weights", tmp_path / "results"
    images = replace(digits[:200], name="digits instead of CIFAR-10")
    np.savez(
        tmp_path / "cifar10.npz", images=tests.pixels[:12].permute(0, 2, 3, 1).numpy(), labels=tests.labels[:12].numpy()
    )
    folder.mkdir(), results.mkdir()
    weights.Manifest().save(folder / weights.MANIFEST)
    recipe = Recipe(name="short", epochs=2, batch=60, attack=TrainingAttack(steps=0), validation=10, ema=0.5)

    def trained(run, origin=None):
        train(load_spec("robnet_micro"), images, recipe, tmp_path / run, weights=origin, progress=False)

    def bundled(run, **options):
        places = {"run": tmp_path / run, "images": str(tmp_path / "cifar10.npz"), "folder": folder, "results": results}
        bundle.bundle("robnet_micro", "short", **places, **options)
        ((path, text),) = docs.model_cards(folder, results).items()
        assert path == folder / "robnet_micro.short.md"
        return text

    return trained, bundled


def test_weights_are_bundled_with_their_training_and_measured_beside_the_paper(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    text = bundled("first")
    (entry,) = weights.manifest(tmp_path / "weights").entries
    assert entry.file_sha256 == file_sha256(tmp_path / "weights" / entry.file)
    assert "the first 180 images of digits instead of CIFAR-10" in text
    beside = text[text.index("**Table 1. White-box attack results on CIFAR-10") :]
    assert "| RobNet-free | paper | 5.49 M | 82.79 | 58.38 | 52.74 |" in beside
    assert f"| {100 * entry.measured.clean:.1f} (" in beside
    assert f"| {100 * entry.measured.pgd20:.1f} (" in beside


def test_the_runs_behind_weights_are_told_one_after_the_other(bundling, tmp_path, monkeypatch):
    trained, bundled = bundling
    steps = interrupt_at(monkeypatch, 4)  # of 3 an epoch
    with pytest.raises(KeyboardInterrupt):
        trained("first")
    text = bundled("first", half=True)
    assert "A milestone" in text
    assert "1 of 2 epochs" in text
    trained("first")
    text = bundled("first", half=True)
    assert "A milestone" not in text
    assert text.count("Recipe `short`") == 1
    file = tmp_path / "weights" / "robnet_micro.short.safetensors"
    digest = file_sha256(file)
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        trained("second", file)
    with pytest.raises(ValueError, match="second: expected a run that is over"):
        bundled("second")
    trained("second", file)
    for _ in range(2):
        text = bundled("second")
        assert text.count("ecipe `short`") == 2
        assert "Then, from those weights, recipe `short`" in text
        (entry,) = weights.manifest(tmp_path / "weights").entries
        assert entry.trained_on == TrainingResult.load(tmp_path / "second" / "training.json").data_sha256
        assert f"begun with {file.name} (sha256 `{digest[:12]}`)" in text
    trained("third")
    assert bundled("third").count("Recipe `short`") == 1


def test_weights_are_not_bundled_with_documents_of_others(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    with pytest.raises(ValueError, match="pgd100: expected a protocol with fgsm and pgd20"):
        bundled("first", protocol="pgd100")
    bundled("first")
    results = tmp_path / "results"
    result = Result.load(results / "robustness" / "robnet_micro.short.json")
    other = result.model.model_copy(update={"state_sha256": 64 * "0"})
    result.model_copy(update={"model": other}).save(results / "robustness" / "robnet_micro.short.autoattack.json")
    with pytest.raises(ValueError, match=r"short\.autoattack\.json: expected a result of the weights of"):
        docs.model_cards(tmp_path / "weights", results)
    file = tmp_path / "first" / "model.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"model\.safetensors: expected the weights that training\.json states"):
        bundled("first")


def test_a_document_of_another_kind_beside_the_results_changes_no_card(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    text = bundled("first")
    (tmp_path / "results" / "robustness" / "robnet_micro.short.notes.json").write_text('{"note": "of another kind"}')
    assert docs.model_cards(tmp_path / "weights", tmp_path / "results") == {
        tmp_path / "weights" / "robnet_micro.short.md": text
    }


def test_the_model_cards_of_bundled_weights_are_current():
    cards = docs.model_cards()
    assert set(cards) == set(weights.FOLDER.glob("*.md"))
    for path, text in cards.items():
        assert path.read_text() == text, "run `make docs`"


def test_the_committed_search_has_the_candidates_that_it_asked_for():
    based, free = docs.searches()
    assert len([one for one in based.candidates if one.after]) >= 300
    assert len([one for one in free.candidates if one.before]) >= 100
    for result in (based, free):
        assert result.config == load_config("small")
        assert len(result.candidates) == sum(group.count for group in result.branch.groups)


def test_the_specs_of_the_search_are_those_that_it_picked():
    picked = [spec for result in docs.searches() for spec, _ in picks(result)]
    members = ["robnet_small", "robnet_medium", "robnet_search_large", "robnet_search_free"]  # of appendix F
    assert [spec.name for spec in picked] == members
    for spec in picked:
        assert spec.dumps() == SPECS.path(spec.name).read_text()


def test_the_report_of_the_search_is_current_but_for_its_pictures():
    found = docs.searches()
    page = html(found, picks=[picked for result in found for picked in picks(result)])
    old, new = (
        re.sub(r"<svg.*?</svg>", "<svg>", text, flags=re.DOTALL) for text in (docs.SEARCH_REPORT.read_text(), page)
    )
    assert old == new, "run `make docs`"  # matplotlib's versions draw differently


def test_the_committed_run_of_table_1_is_whole_and_its_report_current(tmp_path):
    result = docs.table1()
    assert result.complete
    assert (result.scale, result.seeds) == (load_scale("small"), (0, 1, 2))
    assert {row.label for row in result.plan.parts[0].rows} == {
        "ResNet-18",
        "DenseNet-121",
        "RobNet-large",
        "RobNet-free",
    }
    write(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == docs.TABLE1_REPORT.read_text(), "run `make docs`"


def test_our_apgd_stands_beside_its_authors_on_three_models():
    hashes = {Result.load(path).model.state_sha256 for path in (committed.ROBUSTNESS / "apgd").glob("*.json")}
    assert len(hashes) >= 3


@pytest.mark.parametrize("path", sorted((committed.ROBUSTNESS / "apgd").glob("*.json")), ids=lambda path: path.stem)
def test_our_apgd_finds_what_its_authors_find(path):
    result = Result.load(path)
    assert result.data.n == 500
    assert result.measurement("theirs").forwards[0] > 0
    ours = [min(pair) for pair in zip(*(result.measurement(name).correct for name in docs.OURS), strict=True)]
    assert abs(sum(ours) / len(ours) - result.accuracy("theirs")) <= 0.004


def test_half_precision_is_of_kernels_alone_and_loads_into_float32(tiny, tmp_path):
    network = compile(tiny)
    state = bundle.stored(network.state_dict(), half=True)
    halves = {key for key, value in state.items() if value.dtype == torch.float16}
    assert halves == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    tiny.save(tmp_path / "tiny.json")
    loaded = load_model(str(tmp_path / "tiny.json"), weights=tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == value.dtype
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-6)
