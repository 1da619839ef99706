"""What a document claims can be verified from the images beside it, and what does not hold is found."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from robnet_zoo import cli, data
from robnet_zoo.attacks import AutoAttack, Bim, CarliniWagner, Fgsm, Pgd
from robnet_zoo.benchmarks import evaluation
from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.kept import Verified, adversarial, kept_path, load_kept, verify
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result, Shard
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.cli import benchmark as cli_benchmark
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import DataError, ResultError
from tests.brightness import Brightness

PROTOCOL = Protocol(name="kept", attacks=(Fgsm(), Pgd(steps=3, step="8/255")), batch=16, dtype="float32")


def greys() -> data.Images:
    """Return even greys from 100 to 155 of 255; the labels are Brightness's own answers, except the first."""
    values = torch.arange(100, 156, dtype=torch.uint8)
    labels = (values > 127).long()
    labels[0] = 1
    return data.Images(values[:, None, None, None].expand(-1, 3, 4, 4).contiguous(), labels, "grey")


def bright() -> Target:
    return of_module(Brightness(), name="brightness")


@pytest.fixture(scope="module")
def images() -> data.Images:
    return greys()


@pytest.fixture(scope="module")
def original(tmp_path_factory, images) -> Path:
    path = tmp_path_factory.mktemp("kept") / "result.json"
    evaluate(bright(), images, PROTOCOL, output=path, keep_images=True, progress=False)
    return path


@pytest.fixture
def document(original, tmp_path) -> Path:
    return Path(shutil.copytree(original.parent, tmp_path / "copy")) / original.name


def changed(document: Path, change) -> None:
    """Change the kept tensors, and the hash in the document with them, as someone who cheats would."""
    tensors = safetensors.torch.load_file(kept_path(document))
    change(tensors)
    safetensors.torch.save_file(tensors, kept_path(document))
    result = Result.load(document).model_copy(update={"images_sha256": file_sha256(kept_path(document))})
    result.save(document)


def test_every_claimed_success_is_kept_and_holds(document, images):
    # Greys up to 8 from 127.5 are fooled at eps 8/255: 120 to 135, and image 0 was wrong before.
    assert verify(document, bright(), images) == [
        Verified("clean", 55, ()),
        Verified("fgsm", 16, ()),
        Verified("pgd3", 16, ()),
    ]
    kept = load_kept(document, Result.load(document))
    assert sorted(kept["fgsm"]) == list(range(20, 36))


def test_a_document_without_kept_images_is_what_it_was(images, tmp_path):
    path = tmp_path / "plain.json"
    evaluate(bright(), images, PROTOCOL, output=path, progress=False)
    assert "images_sha256" not in path.read_text()
    assert sorted(tmp_path.iterdir()) == [path]
    with pytest.raises(ResultError, match=r"expected a document of a run with --keep-images, got one without images$"):
        verify(path, bright(), images)


def to_grey(tensors):
    tensors["fgsm.images"][3] = 0.9


def out_of_the_box(tensors):
    tensors["fgsm.images"][3] += 2


def not_finite(tensors):
    tensors["fgsm.images"][3, 0, 0, 0] = torch.nan


def harmless(tensors):
    tensors["fgsm.images"][3] = 123 / 255  # the clean image


@pytest.mark.parametrize("change", [to_grey, out_of_the_box, not_finite, harmless])
def test_an_image_that_does_not_prove_its_claim_is_refuted(change, document, images):
    changed(document, change)
    assert verify(document, bright(), images)[1:] == [Verified("fgsm", 16, (23,)), Verified("pgd3", 16, ())]


def test_the_command_ends_with_2_where_a_claim_does_not_hold(document, tmp_path, capsys, monkeypatch):
    changed(document, harmless)
    monkeypatch.setattr("robnet_zoo.benchmarks.targets.load.load_target", lambda name, **options: bright())
    monkeypatch.setattr("robnet_zoo.data.load", lambda source: greys())
    with pytest.raises(SystemExit) as ended:
        cli.main(["benchmark", "verify", str(document), "--data", "grey"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert "fgsm   15 of 16 fooled" in printed.out
    assert "fgsm: expected every claim to hold, got 1 that do not, the first of image 23" in printed.err


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.update({"pgd3.images": tensors["pgd3.images"][1:].clone()}), "as many images"),
        (lambda tensors: tensors.update({"fgsm.images": tensors["fgsm.images"].double()}), "in float32"),
        (lambda tensors: tensors.update({"cw.images": torch.zeros(1)}), "expected images of the protocol's attacks"),
        (lambda tensors: tensors.update({"fgsm.samples": tensors["fgsm.samples"] + 1}), "1 of 16 missing"),
        (lambda tensors: tensors.update({"fgsm.images": tensors["fgsm.images"][..., :2].clone()}), "expected images"),
    ],
)
def test_kept_images_of_another_form_are_refused(change, problem, document, images):
    changed(document, change)
    with pytest.raises(ResultError, match=problem):
        verify(document, bright(), images)


def test_another_file_or_none_beside_the_document_is_refused(document, images):
    kept_path(document).write_bytes(kept_path(document).read_bytes() + b" ")
    with pytest.raises(ResultError, match=r"expected the images of result.json .*, got another file$"):
        verify(document, bright(), images)
    kept_path(document).unlink()
    with pytest.raises(ResultError, match=r"got none$"):
        verify(document, bright(), images)


def test_another_model_or_other_data_are_refused(document, images):
    other = Brightness()
    with torch.no_grad():
        other.scale.mul_(2)
    with pytest.raises(ResultError, match=r"^b: expected the model of the document, brightness .*, got another"):
        verify(document, of_module(other, name="b"), images)
    with pytest.raises(ResultError, match="expected the model"):
        verify(document, of_module(Brightness(), name="b", mean=(0.1,), std=(1.0,)), images)
    with pytest.raises(ResultError, match=r"expected the images of the document, grey .*, got others"):
        verify(document, bright(), images[1:])


def test_a_run_that_was_stopped_keeps_the_images_that_it_had(images, tmp_path, monkeypatch, original):
    path, calls = tmp_path / "result.json", []

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return evaluation_packed(*arguments, **options)

    evaluation_packed = evaluation.packed
    monkeypatch.setattr(evaluation, "packed", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(bright(), images, PROTOCOL, output=path, keep_images=True, progress=False)
    assert not kept_path(path).exists()
    monkeypatch.setattr(evaluation, "packed", evaluation_packed)
    evaluate(bright(), images, PROTOCOL, output=path, keep_images=True, progress=False)
    assert kept_path(path).read_bytes() == kept_path(original).read_bytes()
    assert sorted(tmp_path.iterdir()) == [kept_path(path), path]


def test_a_complete_document_without_images_is_not_taken_for_one_with_them(images, tmp_path):
    path = tmp_path / "result.json"
    evaluate(bright(), images, PROTOCOL, output=path, progress=False)
    with pytest.raises(ResultError, match="expected a document of a run with --keep-images"):
        evaluate(bright(), images, PROTOCOL, output=path, keep_images=True, progress=False)


def test_images_are_kept_beside_a_document_of_a_run_that_is_whole(images, tmp_path):
    with pytest.raises(DataError, match="expected an output beside which adversarial images are kept, got none"):
        evaluate(bright(), images, PROTOCOL, keep_images=True, progress=False)
    with pytest.raises(DataError, match="expected a run that is not split into shards"):
        evaluate(
            bright(), images, PROTOCOL, output=tmp_path / "r.json", keep_images=True, shard=Shard(index=0, count=2)
        )


def test_images_of_a_transfer_and_of_a_minimal_attack_hold_too(images, tmp_path):
    attacks = (Bim(steps=3, step="8/255"),)
    protocol = Protocol(name="t", threat="transfer", attacks=attacks, batch=16, dtype="float32")
    path = tmp_path / "transfer.json"
    evaluate_transfer([bright()], bright(), images, protocol, outputs=[path], keep_images=True, progress=False)
    assert verify(path, bright(), images)[1] == Verified("bim3", 16, ())
    minimal = Protocol(name="m", attacks=(CarliniWagner(steps=20, searches=4, initial_c=1.0),), eps="0.2", batch=56)
    path = tmp_path / "minimal.json"
    result = evaluate(bright(), images, minimal, output=path, keep_images=True, progress=False)
    claimed = 55 - sum(result.measurement("cw_l2").correct)
    assert claimed > 0
    assert verify(path, bright(), images)[1] == Verified("cw_l2", claimed, ())


def test_images_of_autoattack_hold_and_become_the_tensor_of_an_external_evaluation(images, tmp_path):
    pytest.importorskip("pyautoattack")
    attack = AutoAttack(version="custom", attacks=("apgd-ce",))
    protocol = Protocol(name="a", attacks=(attack,), batch=56, dtype="float32")
    path = tmp_path / "autoattack.json"
    result = evaluate(bright(), images, protocol, output=path, keep_images=True, progress=False)
    assert verify(path, bright(), images)[1] == Verified("autoattack", 16, ())
    tensor = adversarial(path, images)
    clean, labels = images.batch(slice(None))
    assert (tensor.shape, tensor.dtype) == (clean.shape, torch.float32)
    right = (bright().judge(tensor).argmax(1) == labels).int().tolist()
    assert right == list(result.measurement("autoattack").correct)
    assert float((tensor - clean).abs().max()) <= 8 / 255 + 1e-6


def test_the_command_writes_the_tensor(document, tmp_path, monkeypatch):
    monkeypatch.setattr("robnet_zoo.data.load", lambda source: greys())
    written = cli_benchmark._adversarial_tensor(document, "grey", quiet=True)
    loaded = torch.load(io.BytesIO(written), weights_only=True)
    assert torch.equal(loaded, adversarial(document, greys()))
