"""Weights are bundled with their training and their measurements, or not at all."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from robnet_zoo import data
from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.core.files import file_sha256
from robnet_zoo.genotype.specs import SPECS, load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.training import Recipe, TrainingAttack, train
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import load_model
from tests.interruption import interrupt_at
from tools import bundle, docs


@pytest.fixture
def bundling(tiny, tmp_path, monkeypatch):
    """Return two functions: one trains a run on digits, the other bundles it and returns its model card.

    The bundled spec of that name is smaller than usual.
    """
    shutil.copytree(SPECS.folder, tmp_path / "specs")
    monkeypatch.setattr(SPECS, "folder", tmp_path / "specs")
    tiny.model_copy(update={"name": "robnet_micro"}).save(SPECS.path("robnet_micro"))
    (digits, tests), folder, results = data.digits(), tmp_path / "weights", tmp_path / "results"
    images = replace(digits[:64], name="digits instead of CIFAR-10")
    np.savez(
        tmp_path / "cifar10.npz", images=tests.pixels[:6].permute(0, 2, 3, 1).numpy(), labels=tests.labels[:6].numpy()
    )
    folder.mkdir(), results.mkdir()
    weights.Manifest().save(folder / weights.MANIFEST)
    Protocol(name="short", attacks=(Fgsm(), Pgd(step="2/255", steps=20)), n=4, batch=4).save(tmp_path / "short.json")
    recipe = Recipe(name="short", epochs=2, batch=18, attack=TrainingAttack(steps=0), validation=10, ema=0.5)

    def trained(run, origin=None):
        train(load_spec("robnet_micro"), images, recipe, tmp_path / run, weights=origin, progress=False)

    def bundled(run, protocol=str(tmp_path / "short.json"), tag="short", **options):
        places = {"run": tmp_path / run, "images": str(tmp_path / "cifar10.npz"), "folder": folder, "results": results}
        bundle.bundle("robnet_micro", tag, protocol=protocol, **places, **options)
        return docs.model_cards(folder, results)[folder / f"robnet_micro.{tag}.md"]

    return trained, bundled


def test_weights_are_bundled_with_their_training_and_measured_beside_the_paper(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    text = bundled("first", protocol="white_box")
    (entry,) = weights.manifest(tmp_path / "weights").entries
    assert entry.file_sha256 == file_sha256(tmp_path / "weights" / entry.file)
    assert "the first 58 images of digits instead of CIFAR-10" in text
    beside = text[text.index("**Table 1. White-box attack results on CIFAR-10") :]
    assert "| RobNet-free | paper | 5.49 M | 82.79 | 58.38 | 52.74 |" in beside
    assert f"| {100 * entry.measured.clean:.1f} (" in beside
    assert f"| {100 * entry.measured.pgd20:.1f} (" in beside


def test_the_runs_behind_weights_are_listed_one_after_the_other(bundling, tmp_path, monkeypatch):
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


def test_the_runs_behind_other_bundled_weights_come_before_those_that_went_on_from_them(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    assert bundled("first").count("ecipe `short`") == 1
    trained("second", tmp_path / "weights" / "robnet_micro.short.safetensors")
    (entry,) = weights.manifest(tmp_path / "weights").entries
    named = weights.Manifest(entries=(entry.model_copy(update={"classes": tuple("abcdefghij")}),))
    named.save(tmp_path / "weights" / weights.MANIFEST)
    longer = bundled("second", tag="longer")
    assert {entry.classes for entry in weights.manifest(tmp_path / "weights").entries} == {tuple("abcdefghij")}
    assert longer.count("ecipe `short`") == 2
    assert "Then, from those weights, recipe `short`" in longer
    assert "a, b, c, d, e, f, g, h, i, j" in longer


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
    with pytest.raises(ValueError, match=r"model\.safetensors: expected the weights that training\.json names"):
        bundled("first")


def test_a_document_of_another_kind_beside_the_results_changes_no_card(bundling, tmp_path):
    trained, bundled = bundling
    trained("first")
    text = bundled("first")
    (tmp_path / "results" / "robustness" / "robnet_micro.short.notes.json").write_text('{"note": "of another kind"}')
    assert docs.model_cards(tmp_path / "weights", tmp_path / "results") == {
        tmp_path / "weights" / "robnet_micro.short.md": text
    }


def test_half_precision_is_of_kernels_alone_and_loads_into_float32(tiny, tmp_path):
    network = compile(tiny)
    state = bundle.stored(network.state_dict(), half=True)
    halves = {key for key, value in state.items() if value.dtype == torch.float16}
    assert halves == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    safetensors.torch.save_file(state, tmp_path / "half.safetensors")
    tiny.save(tmp_path / "tiny.json")
    loaded = load_model(str(tmp_path / "tiny.json"), weights=tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        bundled = loaded.state_dict()[key]
        assert bundled.dtype == value.dtype
        torch.testing.assert_close(bundled, value, rtol=1e-3, atol=1e-6)
