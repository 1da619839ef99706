"""Attacks of the page: what is offered, the messages of a run, and that it ends when nobody watches."""

from __future__ import annotations

import threading
from threading import Event

import pytest

from robnet_zoo.attacks import ATTACKS, Pgd
from robnet_zoo.editor.attacker import THREAD, Attacker, Watching, models, offered
from robnet_zoo.editor.desk import Desk
from robnet_zoo.editor.draft import Draft
from robnet_zoo.errors import EditorError
from robnet_zoo.zoo import weights

MODEL = "robnet_micro.digits"


@pytest.fixture(scope="module")
def desk() -> Desk:
    from robnet_zoo.genotype.specs import SPECS

    return Desk(Draft.of_spec(SPECS.own("robnet_micro")), models=("no/such.onnx",))


@pytest.fixture(scope="module")
def attacker(desk) -> Attacker:
    return Attacker(desk)


def asked(**changes) -> Watching:
    given = {"model": MODEL, "pictures": "digits", "index": 0, "attack": Pgd(steps=3), "eps": "16/255"}
    return Watching(**given | changes)


def test_models_are_those_of_the_start_and_all_with_bundled_weights(desk):
    names = [model["name"] for model in models(desk)]
    assert names[0] == "no/such.onnx"
    assert len(names) == 1 + len(weights.manifest().entries)
    (digits,) = (model for model in models(desk) if model["name"] == MODEL)
    assert digits["spec"] == desk.start.spec().hash


def test_a_training_run_names_its_spec(desk, tiny, tmp_path):
    tiny.save_into(tmp_path)
    given = Desk(desk.start, models=(f"local-dir:{tmp_path}", str(tmp_path / "none")))
    assert [model["spec"] for model in models(given)[:2]] == [tiny.hash, None]


def test_every_attack_is_offered_with_parameters_that_it_takes():
    assert [each["kind"] for each in offered()] == [kind().kind for kind in ATTACKS]
    for kind, each in zip(ATTACKS, offered(), strict=True):
        assert each["summary"]
        given = {key: schema["default"] for key, schema in each["parameters"].items()}
        assert kind.parse(given) == kind()


def test_a_run_tells_loading_then_queries_then_the_end(attacker):
    kinds = [message["kind"] for message in attacker.messages(asked(), Event())]
    assert kinds == ["loading", "clean", "query", "query", "query", "end"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "/etc/passwd"}, "expected a model that was named at the start, got '/etc/passwd'"),
        ({"model": "no/such.onnx"}, "no/such.onnx: "),
        ({"pictures": "x"}, "open the file again"),
        ({"index": 500}, "from 0 to 499, got 500"),
        ({"eps": "9"}, "did you mean 9/255"),
        ({"label": 10}, "expected a class from 0 to 9, got 10"),
    ],
)
def test_a_run_that_cannot_begin_ends_with_an_error_of_a_line(attacker, changes, text):
    *_, last = attacker.messages(asked(**changes), Event())
    assert last["kind"] == "error"
    assert text in last["text"]


def test_what_a_strangers_model_raises_is_told_too(attacker, monkeypatch):
    def fail(name):
        raise ZeroDivisionError("inside a model")

    monkeypatch.setattr(attacker, "target", fail)
    *_, last = attacker.messages(asked(), Event())
    assert last == {"kind": "error", "text": "ZeroDivisionError: inside a model"}


def test_a_stopped_run_ends_and_so_does_its_thread(attacker):
    stop = Event()
    kinds = []
    for message in attacker.messages(asked(attack=Pgd(steps=100_000), eps="0"), stop):
        kinds.append(message["kind"])
        if len(kinds) == 10:
            stop.set()
    assert kinds[-1] == "stopped"
    assert len(kinds) < 100
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(10)
            assert not thread.is_alive()


def test_only_models_of_the_start_are_loaded(attacker):
    with pytest.raises(EditorError, match="named at the start"):
        attacker.target("resnet18")
