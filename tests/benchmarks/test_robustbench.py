"""RobustBench can read our results and load our models."""

import json
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from robnet_zoo import cli, data
from robnet_zoo.attacks import Pgd
from robnet_zoo.attacks.autoattack import AutoAttack
from robnet_zoo.benchmarks import evaluate, of_module
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Alarm, DataIdentity, Measurement, ModelIdentity, Result, Shard, measured
from robnet_zoo.benchmarks.robustbench import CIFAR10, evaluation_text, issue_text, model_info
from robnet_zoo.errors import RobustBenchError
from robnet_zoo.zoo import registry as zoo
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import load_model

# An entry of its leaderboard, by type: robustbench/leaderboard/template.py and every file in model_info/cifar10/Linf.
KEYS = {
    "link": str,
    "name": str,
    "authors": str,
    "additional_data": bool,
    "number_forward_passes": int,
    "dataset": str,
    "venue": str,
    "architecture": str,
    "eps": str,
    "clean_acc": str,
    "reported": str,
    "autoattack_acc": str,
}
PAPER = {"link": "https://arxiv.org/abs/1911.10695", "name": "When NAS", "authors": "A, B", "venue": "CVPR 2020"}


def accuracy(attack: str, right: int, n: int = 10_000, **changes: Any) -> Measurement:
    return measured(attack, (1,) * right + (0,) * (n - right), seconds=1.0, **changes)


def result(attack: AutoAttack | Pgd | None = None, *, eps: str = "8/255", **changes: Any) -> Result:
    """Return a result of 10,000 images: 8278 are right, 4510 of them under attack."""
    attack = AutoAttack() if attack is None else attack
    parts = {
        "protocol": Protocol(name="test", eps=eps, attacks=(attack,), dtype="float32"),
        "model": ModelIdentity(name="robnet_free.cifar10", state_sha256="0" * 64),
        "data": DataIdentity(name="CIFAR-10 test images", sha256="0" * 64, n=10_000),
        "software": {},
        "device": "CPU",
        "measurements": (accuracy("clean", 8278), accuracy(attack.title, 4510)),
    }
    return Result(**(parts | changes))


# The entry


def test_entry_has_the_leaderboards_keys_in_order_and_type() -> None:
    info = model_info(result(), **PAPER)
    assert {key: type(value) for key, value in info.items()} == KEYS
    assert list(json.loads(json.dumps(info))) == list(KEYS)


def test_command_writes_the_entry(tmp_path, capsys) -> None:
    document, entry = tmp_path / "result.json", tmp_path / "model.json"
    result().save(document)
    options = [word for key, value in PAPER.items() for word in (f"--{key}", value)]
    cli.main(["robustbench", str(document), *options, "-o", str(entry)])
    assert json.loads(entry.read_text()) == model_info(result(), **PAPER)
    assert capsys.readouterr().out == f"{entry}\n"


def test_figures_are_percentages_with_two_decimals() -> None:
    info = model_info(result(), **PAPER, reported=0.451234)
    assert (info["clean_acc"], info["autoattack_acc"], info["reported"]) == ("82.78", "45.10", "45.12")
    assert model_info(result(), **PAPER)["reported"] == "45.10"


def test_leaderboard_sorts_an_accuracy_below_ten_last() -> None:
    low = result(measurements=(accuracy("clean", 8278), accuracy("autoattack", 999)))
    rows = [model_info(low, **PAPER), model_info(result(), **PAPER)]
    rows.sort(key=lambda row: -float(row["autoattack_acc"]))  # as robustbench.utils.list_available_models
    assert [row["autoattack_acc"] for row in rows] == ["45.10", "9.99"]


@pytest.mark.parametrize(
    ("model", "architecture"),
    [("robnet_free.cifar10", "RobNet-free"), ("robnet_large_v2", "RobNet-large-v2"), ("wide_resnet", "wide_resnet")],
)
def test_architecture_is_named_as_in_the_paper(model: str, architecture: str) -> None:
    identity = ModelIdentity(name=model, state_sha256="0" * 64)
    assert model_info(result(model=identity), **PAPER)["architecture"] == architecture


def test_euclidean_leaderboard_has_its_own_eps_and_norm() -> None:
    info = model_info(result(AutoAttack(norm="l2"), eps="1/2"), **PAPER, threat="L2")
    assert info["eps"] == "0.5"


def test_footnote_says_which_images_and_which_flags() -> None:
    few = DataIdentity(name="cifar10_test1k.npz", sha256="0" * 64, n=1000)
    flagged = accuracy("autoattack", 451, 1000, flags=("square_gains",))
    info = model_info(result(data=few, measurements=(accuracy("clean", 828, 1000), flagged)), **PAPER)
    assert info["footnote"] == (
        "Evaluated on 1000 images (cifar10_test1k.npz) instead of 10000. AutoAttack raised flags: square_gains."
    )


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (result(Pgd(steps=20)), "expected the standard AutoAttack in linf, got no AutoAttack"),
        (result(AutoAttack(norm="l2")), "expected the standard AutoAttack in linf, got standard in l2"),
        (
            result(AutoAttack(version="custom", attacks=("square",))),
            "expected the standard AutoAttack in linf, got custom in linf",
        ),
        (result(eps="4/255"), "expected eps 8/255 for cifar10/Linf, got 4/255"),
        (result(complete=False), "expected a complete result, got an interrupted run"),
        (result(shard=Shard(index=0, count=1)), "expected a complete result, got shard 0 of 1"),
        (
            result(Pgd(steps=20), protocol=Protocol(name="test", threat="transfer", attacks=(Pgd(steps=20),))),
            "expected attacks on the model itself, got a transfer",
        ),
    ],
)
def test_result_that_does_not_fit_is_one_line(wrong: Result, problem: str) -> None:
    with pytest.raises(RobustBenchError, match=f"^robnet_free.cifar10: {problem}$"):
        model_info(wrong, **PAPER)


def test_leaderboard_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(RobustBenchError, match=r"^expected a leaderboard of RobustBench's .*, got imagenet/L2$"):
        model_info(result(), **PAPER, dataset="imagenet", threat="L2")


# The issue and the images

HEADINGS = ("# Paper Information", "# Leaderboard Claim(s)", "## Model 1", "# Model Zoo:")  # of its template
FIELDS = {
    "Paper Title": "When NAS",
    "Paper URL": "https://arxiv.org/abs/1911.10695",
    "Paper authors": "A, B",
    "Architecture": "RobNet-free",
    "Threat Model": "Linf",
    "eps": "8/255",
    "Clean accuracy": "82.78",
    "Robust accuracy": "45.10",
    "Additional data": "false",
    "Checkpoint and code": "https://example.org/weights",
}


def test_issue_has_the_headings_and_fields_of_the_template() -> None:
    text = issue_text(model_info(result(), **PAPER), result(), checkpoint="https://example.org/weights")
    assert [line for line in text.splitlines() if line in HEADINGS] == list(HEADINGS)
    assert all(f"- **{field}**: {value}\n" in text for field, value in FIELDS.items())
    boxes = [line for line in text.splitlines() if line.startswith("- [")]
    assert [box.startswith("- [ ]") for box in boxes] == [True] * 4
    assert "that is **not** included among those" in boxes[1]
    assert "under MIT license" in boxes[2]


def test_issue_of_a_document_in_two_norms_names_the_one_that_its_figures_are_of() -> None:
    both = Protocol(name="test", eps="1/2", attacks=(AutoAttack(), AutoAttack(name="l2", norm="l2")), dtype="float32")
    measurements = (accuracy("clean", 8278), accuracy("autoattack", 0), accuracy("l2", 4510))
    measured = result(protocol=both, measurements=measurements)
    text = issue_text(model_info(measured, **PAPER, threat="L2"), measured, checkpoint="x", threat="L2")
    assert "- **Threat Model**: L2\n" in text
    assert "- **Robust accuracy**: 45.10\n" in text


HEADED = ("## Target model", "## New evaluation")  # of the template of other evaluations


def test_evaluation_by_any_attack_has_the_fields_of_its_template() -> None:
    text = evaluation_text(
        result(Pgd(steps=40)), model="Carmon2019Unlabeled", authors="A, B", link="https://a.org/x.pt"
    )
    assert [line for line in text.splitlines() if line in HEADED] == list(HEADED)
    for field, value in {
        "Model identifier(s)": "Carmon2019Unlabeled",
        "Leaderboard(s)": "cifar10, Linf, eps = 8/255",
        "Link to adversarial images": "https://a.org/x.pt",
        "Robust accuracy": "45.10",
        "Author(s)": "A, B",
    }.items():
        assert f"+ **{field}:** {value}\n" in text
    assert '"steps":40' in text
    assert "Evaluated on" not in text


def test_evaluation_counts_what_every_attack_left_and_says_how_many_images_it_is_of() -> None:
    attacks = (Pgd(), Pgd(name="long", steps=100))
    rights = ((1, 1, 0, 0), (1, 0, 1, 0))
    halves = [measured(attack.title, right, seconds=1.0) for attack, right in zip(attacks, rights, strict=True)]
    parts = {
        "protocol": Protocol(name="test", eps="8/255", attacks=attacks, dtype="float32"),
        "data": DataIdentity(name="few.npz", sha256="0" * 64, n=4),
        "measurements": (accuracy("clean", 4, 4), *halves),
        "worst_case": measured("worst_case", (1, 0, 0, 0), seconds=2.0),
    }
    text = evaluation_text(result(**parts), model="M", authors="A", link="")
    assert "+ **Robust accuracy:** 25.00\n" in text
    assert "Evaluated on 4 images (few.npz) instead of 10000." in text


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (result(Pgd(), eps="4/255"), "expected eps 8/255 for cifar10/Linf, got 4/255"),
        (result(Pgd(norm="l2")), "expected attacks in linf alone, got pgd20 too"),
    ],
)
def test_evaluation_that_fits_no_leaderboard_is_one_line(wrong: Result, problem: str) -> None:
    with pytest.raises(RobustBenchError, match=f"^robnet_free.cifar10: {problem}$"):
        evaluation_text(wrong, model="M", authors="A", link="")


def test_issue_of_few_images_says_so() -> None:
    few = result(
        data=DataIdentity(name="cifar10_test1k.npz", sha256="0" * 64, n=1000),
        measurements=(accuracy("clean", 828, 1000), accuracy("autoattack", 451, 1000)),
    )
    assert "Evaluated on 1000 images" in issue_text(model_info(few, **PAPER), few, checkpoint="x")


def test_command_writes_the_issue_and_refuses_images_without_data(tmp_path, capsys) -> None:
    document, entry, issue = (tmp_path / name for name in ("result.json", "model.json", "issue.md"))
    result().save(document)
    options = [word for key, value in PAPER.items() for word in (f"--{key}", value)]
    command = ["robustbench", str(document), *options, "-o", str(entry)]
    with pytest.raises(SystemExit):
        cli.main([*command, "--images", "x.pt"])
    assert not entry.exists()
    cli.main([*command, "--issue", str(issue)])
    assert f"- **Checkpoint and code**: {PAPER['link']}" in issue.read_text()
    assert capsys.readouterr().out == f"{entry}\n{issue}\n"


@pytest.mark.parametrize("names", [("x.json", "x.json"), ("x.json", "folder"), ("folder", "x.json")])
def test_command_writes_nothing_over_its_own_files_or_where_a_folder_is(names, tmp_path, capsys) -> None:
    result().save(tmp_path / "result.json")
    (tmp_path / "folder").mkdir()
    options = [word for key, value in PAPER.items() for word in (f"--{key}", value)]
    entry, issue = (str(tmp_path / name) for name in names)
    with pytest.raises(SystemExit):
        cli.main(["robustbench", str(tmp_path / "result.json"), *options, "-o", entry, "--issue", issue])
    assert "expected" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "result.json"]


@pytest.mark.parametrize("reported", [45, -0.2, float("nan")])
def test_a_reported_accuracy_is_a_share(reported) -> None:
    with pytest.raises(RobustBenchError, match="expected the reported accuracy as a share, from 0 to 1, got"):
        model_info(result(), **PAPER, reported=reported)


@pytest.mark.parametrize("classes", [tuple("0123456789"), ("cat", "dog")])
def test_a_document_of_other_images_than_the_leaderboards_is_refused(classes) -> None:
    other = result(data=DataIdentity(name="other", sha256="0" * 64, n=10_000, classes=classes))
    with pytest.raises(RobustBenchError, match=f"expected images of cifar10, got other with {len(classes)} classes"):
        model_info(other, **PAPER)
    same = DataIdentity(name="same", sha256="0" * 64, n=10_000, classes=tuple(reversed(CIFAR10)))
    assert model_info(result(data=same), **PAPER)["dataset"] == "cifar10"


def test_alarms_of_the_document_are_in_the_issue() -> None:
    alarms = (Alarm(name="zero_gradients", text="all of them"), Alarm(name="unconfirmed", text="1 of 2"))
    alarmed = result(alarms=alarms)
    text = issue_text(model_info(alarmed, **PAPER), alarmed, checkpoint="link")
    assert "- alarm: zero_gradients: all of them\n- note: unconfirmed: 1 of 2\n" in text


def test_command_writes_an_evaluation_with_the_tensor_of_its_images(tmp_path, capsys) -> None:
    document, issue, images = (tmp_path / name for name in ("result.json", "issue.md", "adversarial.pt"))
    pixels = np.full((2, 4, 4, 3), 128, dtype=np.uint8)
    pixels[1] = 0
    np.savez(tmp_path / "data.npz", images=pixels, labels=np.array([1, 0]))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[0.0] * 3, [1.0] * 3]))
        model[2].bias.copy_(torch.tensor([1.5, 0.0]))  # the first image is just within class 1
    protocol = Protocol(name="pgd", eps="8/255", attacks=(Pgd(),), dtype="float32")
    given = data.load(tmp_path / "data.npz")
    evaluate(of_module(model, name="M"), given, protocol, output=document, keep_images=True)
    command = ["robustbench", str(document), "--authors", "A", "-o", str(issue)]
    with pytest.raises(SystemExit):
        cli.main(command)  # neither a paper nor a model of the zoo
    assert "--link, --name, --venue: expected all of them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, "--evaluates", "M", "--venue", "CVPR"])
    assert not issue.exists()
    cli.main([*command, "--evaluates", "M", "--images", str(images), "--data", str(tmp_path / "data.npz")])
    assert capsys.readouterr().out == f"{issue}\n{images}\n"
    assert "+ **Robust accuracy:** 50.00\n" in issue.read_text()
    kept, (clean, _) = torch.load(images, weights_only=True), given.batch(slice(None))
    assert (kept.shape, kept.dtype) == ((2, 3, 4, 4), torch.float32)
    assert not torch.equal(kept[0], clean[0])
    assert torch.equal(kept[1], clean[1])


# Its loader


def asked_for(model: str, *, dataset: str, threat: str) -> str:
    """Return the name that `robustbench.utils.load_model` asks timm for."""
    return f"{model.lower().replace('-', '_')}_{dataset}_{threat.lower()}"


@pytest.mark.parametrize(
    ("model", "bundled"),
    [
        ("robnet_micro", "robnet_micro.cifar10"),
        ("RobNet-micro", "robnet_micro.cifar10"),
        ("RobNet-free", "robnet_free.cifar10"),
    ],
)
def test_its_loader_finds_our_model_with_its_trained_weights(model: str, bundled: str) -> None:
    name = asked_for(model, dataset="cifar10", threat="Linf")
    assert timm.is_model(name)
    loaded = timm.create_model(name, num_classes=10, pretrained=True, checkpoint_path="").eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), load_model(bundled)(images))


def test_all_weights_trained_on_its_data_sets_are_found() -> None:
    entries = [entry for entry in weights.manifest().entries if entry.tag.endswith("cifar10")]
    names = {asked_for(entry.model, dataset="cifar10", threat="Linf") for entry in entries}
    assert names == set(zoo.aliases())
    assert names == {name for name in timm.list_models("robnet*", pretrained=True) if name.endswith("_linf")}


def test_weights_bundled_later_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = [entry for entry in weights.manifest().entries if entry.file == "robnet_micro.cifar10.safetensors"]
    later = weights.Manifest(entries=(entry.model_copy(update={"model": "robnet_free", "file": "free.safetensors"}),))
    monkeypatch.setattr(weights, "manifest", lambda: later)
    assert list(zoo.aliases()) == ["robnet_free_cifar10_linf"]
    assert zoo._all_default_cfgs()["robnet_free_cifar10_linf"]["file"].endswith("free.safetensors")


def test_of_two_tags_the_default_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = [entry for entry in weights.manifest().entries if entry.file == "robnet_micro.cifar10.safetensors"]
    entries = (entry, entry.model_copy(update={"tag": "fast_cifar10", "file": "fast.safetensors"}))
    monkeypatch.setattr(weights, "manifest", lambda: weights.Manifest(entries=entries))
    assert zoo.aliases() == {"robnet_micro_cifar10_linf": entry}
    assert timm.get_pretrained_cfg("robnet_micro").tag == "cifar10"


def test_alias_without_weights_is_an_untrained_network_of_its_spec() -> None:
    network = timm.create_model("robnet_micro_cifar10_linf", num_classes=3, device="meta")
    assert network.spec.name == "robnet_micro"
    assert network.num_classes == 3
