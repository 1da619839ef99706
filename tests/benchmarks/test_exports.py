"""The exports of a model: files that are that model, figures that are theirs, and runs that continue."""

import statistics

import pytest
import torch
from safetensors.torch import save
from torch import nn

from robnet_zoo import data
from robnet_zoo.benchmarks import exports
from robnet_zoo.benchmarks.exports import ExportsResult, exports_path, write_exports
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.converters import onnx
from robnet_zoo.errors import DataError, TargetError
from tests.small_networks import SPECS, network_of

PIXELS = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES, OTHERS = (data.Images(part, torch.arange(20) % 5, "noise") for part in PIXELS.split(20))
FORMS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def target():
    return of_module(network_of(SPECS["identities alone"]).float(), name="mine", dtype="float32")


@pytest.fixture(scope="module")
def whole(target, tmp_path_factory):
    """Return the document of an uninterrupted run, the files as targets, and the folder."""
    folder = tmp_path_factory.mktemp("exports")
    options = {"precisions": FORMS, "calibration": OTHERS, "rounds": 2, "progress": False}
    return *write_exports(target, IMAGES, folder, **options), folder


def write(target, folder, *, precisions=FORMS, images=IMAGES, calibration=OTHERS):
    return write_exports(
        target, images, folder, precisions=precisions, calibration=calibration, rounds=2, progress=False
    )


def figures(document):
    return [(form.form, form.bytes, form.logits, form.gradients, form.agreement) for form in document.forms]


def test_each_form_is_the_model_beside_its_figures(target, whole):
    document, files, folder = whole
    assert [form.form for form in document.forms] == ["torch", *FORMS]
    torch_form, *rest = document.forms
    file = save(target.judge.state_dict())
    assert torch_form.bytes == len(file) - 8 - int.from_bytes(file[:8], "little")  # without its header
    shown = IMAGES.batch(slice(None))[0]
    expected = target.judge(shown)
    for form, file in zip(rest, files, strict=True):
        path = folder / form.file
        assert form.bytes == path.stat().st_size
        assert onnx.read_file(path).precision == form.form
        logits = file.judge(shown)
        assert form.logits.difference == pytest.approx(float((logits - expected).abs().max()), rel=1e-4, abs=1e-7)
        assert form.agreement == float((logits.argmax(1) == expected.argmax(1)).float().mean())
    assert rest[0].logits.share < 1e-5
    assert rest[0].logits.share < rest[2].logits.share
    assert document.calibration == OTHERS.sha256
    assert ExportsResult.load(exports_path(folder, target)) == document


def test_a_latency_is_the_median_of_rounds_in_which_all_forms_take_turns(target, whole, monkeypatch, tmp_path):
    asked = []

    def in_turns(work, *, rounds, progress):
        asked.append((list(work), rounds))
        return {name: [0.003, 0.001, 0.002 * size] for size, name in enumerate(work, start=1)}

    monkeypatch.setattr(exports, "in_turns", in_turns)
    document, _ = write(target, tmp_path, precisions=("fp32",))
    (names, rounds), *again = asked
    assert names == [("torch", 1), ("torch", 64), ("fp32", 1), ("fp32", 64)]
    assert (rounds, again) == (2, [])
    expected = [1000 * statistics.median([0.003, 0.001, 0.002 * size]) for size in (1, 2, 3, 4)]
    assert [each.milliseconds for form in document.forms for each in form.latencies] == pytest.approx(expected)


@pytest.mark.parametrize("moment", ["export", "document", "latencies"])
def test_a_run_that_was_stopped_continues_and_repeats_nothing_that_was_written(
    moment, target, whole, monkeypatch, tmp_path
):
    real = {"export": onnx.export, "document": ExportsResult.save, "latencies": exports.in_turns}
    calls = []

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) == (1 if moment == "latencies" else 2):
            raise KeyboardInterrupt
        return real[moment](*arguments, **options)

    places = {"export": (onnx, "export"), "document": (ExportsResult, "save"), "latencies": (exports, "in_turns")}
    with monkeypatch.context() as patch:
        patch.setattr(*places[moment], stop, raising=False)
        with pytest.raises(KeyboardInterrupt):
            write(target, tmp_path)
    exported = []

    def export(*given, **options):
        exported.append(given[1].name)
        return real["export"](*given, **options)

    monkeypatch.setattr(onnx, "export", export, raising=False)
    document, _ = write(target, tmp_path)
    left = ["mine.fp16.onnx", "mine.int8.onnx"]
    assert exported == ([] if moment == "latencies" else left)
    assert figures(document) == figures(whole[0])
    assert all(len(form.latencies) == 2 for form in document.forms)
    exported.clear()
    assert write(target, tmp_path)[0] == document
    assert exported == []


def test_another_form_can_be_added_later(target, tmp_path):
    write(target, tmp_path, precisions=("fp32",), calibration=None)
    document, files = write(target, tmp_path, precisions=("fp32", "int8"))
    assert [form.form for form in document.forms] == ["torch", "fp32", "int8"]
    assert [file.identity.precision for file in files] == ["fp32", "int8"]


def test_what_belongs_to_another_model_is_not_replaced(target, tmp_path):
    write(target, tmp_path, precisions=("fp32",), calibration=None)
    other = of_module(network_of(SPECS["identities alone"], seed=1).float(), name="mine", dtype="float32")
    with pytest.raises(DataError, match=r"mine\.exports\.json: expected no file or the document of these exports"):
        write(other, tmp_path, precisions=("fp32",), calibration=None)
    exports_path(tmp_path, other).unlink()
    before = (tmp_path / "mine.fp32.onnx").read_bytes()
    with pytest.raises(DataError, match=r"mine\.fp32\.onnx: expected no file or an export of mine"):
        write(other, tmp_path, precisions=("fp32",), calibration=None)
    assert (tmp_path / "mine.fp32.onnx").read_bytes() == before


def test_what_cannot_be_exported_is_refused_before_anything_is_written(target, tmp_path):
    module = of_module(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), name="theirs")
    with pytest.raises(
        TargetError, match=r"^theirs: expected a model that was compiled from a spec.*robnet-zoo compare"
    ):
        write(module, tmp_path)
    normalised = of_module(target.judge, name="mine", mean=[0.5] * 3, std=[1.0] * 3)
    with pytest.raises(TargetError, match="expected a model that takes images in"):
        write(normalised, tmp_path)
    with pytest.raises(DataError, match="expected images to calibrate int8 on, got none"):
        write(target, tmp_path, calibration=None)
    assert list(tmp_path.iterdir()) == []
