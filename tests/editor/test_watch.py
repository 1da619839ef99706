"""What is told of an attack, beside what the engine gives and what can be computed by hand."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest
import torch
from torch import nn

from robnet_zoo import attacks
from robnet_zoo.attacks import ATTACKS, AutoAttack, DeepFool, Fgsm, Pgd, Square
from robnet_zoo.benchmarks import of_module
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.converters import onnx
from robnet_zoo.editor.watch import Watch
from robnet_zoo.errors import AttackError, EditorError, StoppedError
from tests.small_networks import SEPARABLE, genotype, network_of


class Linear(nn.Module):
    """Three logits: the mean of the image times 4, times -4, and 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([4 * mean, -4 * mean + 3, 0 * mean], dim=1)


@pytest.fixture(scope="module")
def linear() -> Target:
    return of_module(Linear().eval(), name="linear")


@pytest.fixture(scope="module")
def small() -> Target:
    return of_module(network_of(genotype({"a": SEPARABLE}, "aa")).float(), name="small")


def told(
    target: Target,
    attack: Any,
    *,
    image: torch.Tensor,
    eps: str = "8/255",
    label: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the messages of an attack."""
    messages: list[dict[str, Any]] = []
    Watch(target, image, label, attack, eps=eps, seed=seed, tell=messages.append, stop=Event()).run()
    return messages


def test_margins_are_those_of_a_closed_form(linear):
    image = torch.full((1, 3, 4, 4), 0.7)  # logits 2.8, 0.2, 0; they cross at a mean of 3/8
    messages = told(linear, Fgsm(), image=image, eps="0.4", label=0)
    clean, *queries, end = messages
    assert (clean["kind"], clean["answer"]) == ("clean", 0)
    assert clean["margin"] == pytest.approx(0.2 - 2.8, abs=1e-5)
    assert [query["query"] for query in queries] == [*range(1, len(queries) + 1)]
    assert end["margin"] == pytest.approx((-4 * 0.3 + 3) - 4 * 0.3, abs=1e-5)
    assert end["fooled"]
    assert "sees 1 instead of 0, at a distance of 102.0/255" in end["verdict"]


@pytest.mark.parametrize("eps", ["2/255", "64/255"])
def test_the_outcome_is_the_engines(small, eps):
    torch.manual_seed(0)
    image, attack = torch.rand(1, 3, 8, 8), Pgd(steps=6)
    messages = told(small, attack, image=image, eps=eps, seed=3)
    label = messages[0]["answer"]
    (outcome,) = attacks.run(
        attack, small.proposer, image, torch.tensor([label]), eps=float(eval(eps)), seed=3, slots=1, judge=small.judge
    )
    assert messages[-1]["fooled"] == outcome.fooled
    assert len([each for each in messages if each["kind"] == "query"]) == outcome.forwards
    if not outcome.fooled:
        assert max(each["margin"] for each in messages) == pytest.approx(outcome.margin, abs=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind is not AutoAttack], ids=lambda kind: kind.__name__)
def test_every_attack_can_be_watched(small, kind):
    torch.manual_seed(1)
    short = {key: 4 for key in ("steps", "queries", "searches") if key in kind.model_fields}
    attack = kind(**short)
    messages = told(small, attack, image=torch.rand(1, 3, 8, 8), eps="1/255" if attack.ball == "linf" else "0.1")
    queries = [each for each in messages if each["kind"] == "query"]
    assert 1 <= len(queries) <= messages[0]["total"]
    assert queries[0]["png"].startswith("data:image/png;base64,")
    assert {"clean", "png", "difference", "verdict"} <= messages[-1].keys()


def test_autoattack_can_be_watched(small):
    pytest.importorskip("pyautoattack")
    torch.manual_seed(1)
    attack = AutoAttack(version="custom", attacks=("apgd-ce",))
    messages = told(small, attack, image=torch.rand(1, 3, 8, 8), eps="128/255")
    assert messages[-1]["kind"] == "end"
    assert len(messages) > 3


def test_an_image_that_the_model_gets_wrong_is_wrong_without_an_attack(linear):
    *_, end = told(linear, Pgd(), image=torch.full((1, 3, 4, 4), 0.7), label=2)
    assert end["fooled"]
    assert end["verdict"] == "Wrong without an attack: the label is 2, the model sees 0."


def test_an_attack_stops_at_the_next_query(small):
    stop, messages = Event(), []

    def tell(message):
        messages.append(message)
        if message["kind"] == "query" and message["query"] == 5:
            stop.set()

    watch = Watch(small, torch.rand(1, 3, 8, 8), None, Pgd(steps=1000), eps="0", seed=0, tell=tell, stop=stop)
    with pytest.raises(StoppedError):
        watch.run()
    assert messages[-1]["query"] == 5


def test_an_answer_that_is_not_finite_is_told_without_a_number(linear):
    class Broken(Linear):
        def forward(self, images):
            return super().forward(images) / 0

    broken = of_module(Broken().eval(), name="broken")
    messages = told(broken, Square(queries=2), image=torch.full((1, 3, 4, 4), 0.7), label=0)
    assert {each["margin"] for each in messages} == {None}


def test_an_onnx_file_is_watched_like_its_model(tmp_path):
    from robnet_zoo.benchmarks.targets.load import load_target

    torch.manual_seed(0)
    network = network_of(genotype({"a": SEPARABLE}, "aa")).float()
    onnx.export(network, tmp_path / "small.onnx")
    image, attack = torch.rand(1, 3, 8, 8), Pgd(steps=3)
    ours = told(of_module(network, name="small", dtype="float32"), attack, image=image)
    files = told(load_target(str(tmp_path / "small.onnx"), device="cpu"), attack, image=image)
    for mine, its in zip(ours, files, strict=True):
        assert (mine["kind"], mine["answer"]) == (its["kind"], its["answer"])
        assert mine["margin"] == pytest.approx(its["margin"], abs=1e-3)


@pytest.mark.parametrize(
    ("attack", "options", "error", "message"),
    [
        (Pgd(), {"eps": "8"}, EditorError, "did you mean 8/255"),
        (Pgd(), {"label": 9}, EditorError, "label: expected a class from 0 to 4, got 9"),
        (DeepFool(norm="l2"), {"eps": "1" + "0" * 90}, AttackError, "got inf; a larger ball holds every image"),
        (Pgd(loss="dlr"), {"label": 0}, None, ""),
    ],
)
def test_odd_arguments_are_refused_in_a_line_or_taken(small, attack, options, error, message):
    if error is None:
        assert told(small, attack, image=torch.rand(1, 3, 8, 8), **options)[-1]["kind"] == "end"
    else:
        with pytest.raises(error, match=message):
            told(small, attack, image=torch.rand(1, 3, 8, 8), **options)


def test_an_attack_that_the_model_is_too_small_for_is_refused(linear):
    with pytest.raises(AttackError, match="needs 4 classes, got 3"):
        told(linear, Pgd(loss="dlr"), image=torch.full((1, 3, 4, 4), 0.7))
