"""Weights are what the manifest beside them says, or are refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from robnet_zoo import data
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import DocumentError, WeightsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import Manifest, MeasuredAccuracies, WeightsEntry, state_sha256
from tools import committed
from tools.bundle import training_runs

MEASURED = MeasuredAccuracies(
    data="cifar10", data_sha256="0" * 64, n=1000, seed=0, eps="8/255", clean=0.8, fgsm=0.6, pgd20=0.5, device="CPU"
)
FILE = "robnet_micro.test.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with weights of robnet_micro and a manifest."""
    save_file(timm.create_model("robnet_micro").state_dict(), tmp_path / FILE)
    write_manifest(tmp_path, spec_hash=load_spec("robnet_micro").hash)
    return tmp_path


def write_manifest(folder: Path, *, spec_hash: str) -> None:
    entry = WeightsEntry(
        model="robnet_micro",
        tag="test",
        file=FILE,
        file_sha256=file_sha256(folder / FILE),
        spec_hash=spec_hash,
        recipe="none",
        measured=MEASURED,
    )
    Manifest(entries=(entry,)).save(folder / "manifest.json")


def load(folder: Path, name: str = "robnet_micro", **options: Any) -> nn.Module:
    """Load a model as a bundled one is loaded, but from another folder."""
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(folder / FILE)}, **options)


def test_weights_that_are_what_the_manifest_says_load(folder: Path) -> None:
    first, second = load(folder), load(folder)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_weights_load_into_another_head_and_as_features(folder: Path) -> None:
    assert load(folder, num_classes=3).num_classes == 3
    assert len(load(folder, features_only=True)(torch.rand(2, 3, 32, 32))) == 3


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip_a_byte, "expected sha256 [0-9a-f]{12}, got [0-9a-f]{12}: damaged; reinstall"),
        (truncate, "expected sha256 [0-9a-f]{12}, got [0-9a-f]{12}: damaged; reinstall"),
        (Path.unlink, "expected the weights of robnet_micro.test, got no file; reinstall"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"features_only": True}])
def test_damaged_file_is_one_line_that_names_it(
    damage: Callable[[Path], object], problem: str, options: dict[str, Any], folder: Path
) -> None:
    damage(folder / FILE)
    with pytest.raises(WeightsError, match=f"^{folder / FILE}: {problem}$"):
        load(folder, **options)


def test_a_damaged_file_that_is_given_by_its_path_is_refused_too(folder: Path) -> None:
    load_model("robnet_micro", weights=folder / FILE)
    flip_a_byte(folder / FILE)
    with pytest.raises(WeightsError, match="damaged"):
        load_model("robnet_micro", weights=folder / FILE)


def test_weights_of_another_spec_are_one_line_that_names_file_and_specs(folder: Path) -> None:
    expected = rf"^{folder / FILE}: expected weights of a spec with hash \w{{12}} \(robnet_free\), "
    with pytest.raises(WeightsError, match=expected + r"got those of \w{12} \(robnet_micro\)$"):
        load(folder, "robnet_free")


def test_weights_of_an_older_spec_of_the_same_name_are_refused(folder: Path) -> None:
    write_manifest(folder, spec_hash="0" * 64)
    with pytest.raises(WeightsError, match="got those of 000000000000"):
        load(folder)


def test_file_without_a_manifest_is_loaded_as_it_is(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    load(folder)


def test_broken_manifest_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DocumentError, match=r"manifest\.json: not JSON"):
        load(folder)


# The manifest


def entry(**changes: object) -> dict[str, Any]:
    keys = {
        "model": "robnet_micro",
        "tag": "a",
        "file": "a.safetensors",
        "file_sha256": "0" * 64,
        "spec_hash": "0" * 64,
    }
    return keys | {"recipe": "none", "measured": MEASURED.model_dump()} | changes


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"file_sha256": "0" * 63}, r"entries\[0\].file_sha256"),
        ({"file": "../a.safetensors"}, r"entries\[0\].file"),
        ({"file": "a.pth"}, r"entries\[0\].file"),
        ({"tag": "a.b"}, r"entries\[0\].tag"),
        ({"model": "robnet-micro"}, r"entries\[0\].model"),
        ({"measured": MEASURED.model_dump() | {"clean": 82.8}}, r"entries\[0\].measured.clean"),
        ({"measured": MEASURED.model_dump() | {"eps": "8 of 255"}}, r"entries\[0\].measured.eps"),
        ({"more": 1}, r"entries\[0\]: unknown key"),
    ],
)
def test_wrong_entry_is_an_error_that_names_the_place(changes: dict[str, object], path: str) -> None:
    with pytest.raises(DocumentError, match=f"^{path}"):
        Manifest.parse({"entries": [entry(**changes)]})


@pytest.mark.parametrize("changes", [{"tag": "b"}, {"file": "b.safetensors"}])
def test_two_entries_of_one_name_or_file_are_an_error(changes: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match="appears 2 times"):
        Manifest.parse({"entries": [entry(), entry(**changes)]})


def test_manifest_survives_saving_and_loading(folder: Path) -> None:
    manifest = weights.manifest(folder)
    manifest.save(folder / "again.json")
    assert Manifest.load(folder / "again.json") == manifest


def test_bundled_manifest_and_files_name_each_other() -> None:
    entries = weights.manifest().entries
    assert {entry.file for entry in entries} == {path.name for path in weights.FOLDER.glob("*.safetensors")}


@pytest.mark.parametrize("entry", weights.manifest().entries, ids=lambda entry: f"{entry.model}.{entry.tag}")
def test_bundled_file_is_intact_and_of_its_spec(entry: WeightsEntry) -> None:
    weights.check(entry, load_spec(entry.model))


def test_the_hash_of_a_state_dict_depends_on_names_and_values_alone(tiny: Genotype) -> None:
    first, second = compile(tiny), compile(tiny)
    assert state_sha256(first.state_dict()) != state_sha256(second.state_dict())
    second.load_state_dict(first.state_dict())
    assert state_sha256(first.state_dict()) == state_sha256(second.double().state_dict())


def test_an_older_manifest_is_read(folder: Path) -> None:
    current = weights.manifest(folder)
    written = current.model_dump(mode="json", exclude_none=True)
    for older in written["entries"]:
        older["sha256"] = older.pop("file_sha256")
    assert Manifest.parse(written | {"schema_version": 1}) == current
    with pytest.raises(DocumentError, match="schema_version: expected 1 or 2, got 3"):
        Manifest.parse(written | {"schema_version": 3})


@pytest.mark.parametrize("name", ["robnet_free.cifar10", "robnet_free.fast_cifar10"])
def test_manifest_result_training_and_card_of_bundled_weights_are_linked_by_hash(name: str) -> None:
    (entry,) = (entry for entry in weights.manifest().entries if f"{entry.model}.{entry.tag}" == name)
    file = weights.FOLDER / entry.file
    assert entry.file_sha256 == file_sha256(file)
    assert entry.state_sha256 == state_sha256(safetensors.torch.load_file(file))
    for document in committed.ROBUSTNESS.glob(f"{name}*.json"):
        model = Result.load(document).model
        assert (model.file_sha256, model.state_sha256) == (entry.file_sha256, entry.state_sha256)
    last = TrainingResult.load(training_runs(entry.model, entry.tag)[-1])
    assert entry.training_file_sha256 == last.file_sha256
    card = (weights.FOLDER / f"{name}.md").read_text()
    assert all(hash in card for hash in (entry.file_sha256, entry.state_sha256, last.file_sha256))


ENTRIES = weights.manifest().entries


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
    images = data.digits()[1][:40]
    measured = evaluate(load_target("robnet_micro.digits"), images, stated.protocol, progress=False)
    for before, now in zip(stated.measurements, measured.measurements, strict=True):
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
    measured = evaluate(load_target("robnet_micro.cifar10"), cifar_images, protocol, progress=False)
    assert abs(measured.accuracy("clean") - stated.accuracy("clean")) <= 0.001


def test_what_the_weights_of_robnet_free_say_of_fifty_images_is_reproduced(cifar_images):
    stated = Result.load(committed.ROBUSTNESS / "robnet_free.cifar10.json")
    assert cifar_images.sha256 == stated.data.sha256
    model, images = load_model("robnet_free.cifar10"), cifar_images[:50]
    ((pixels, labels),) = images.batches(len(images))
    with torch.no_grad():
        right = model(pixels).argmax(1) == labels
    pairs = zip(right.tolist(), stated.measurement("clean").correct[:50], strict=True)
    assert sum(now != before for now, before in pairs) <= 1  # another processor may round one over the boundary
