"""Weights on the hub, without a network."""

from __future__ import annotations

import urllib.error

import pytest
from huggingface_hub import constants

from robnet_zoo.errors import WeightsError
from robnet_zoo.zoo import hub
from robnet_zoo.zoo.registry import load_model


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked for over a network that is not there."""
    requests: list[str] = []

    def refuse(request, **_):
        requests.append(request.full_url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return requests


@pytest.mark.parametrize("name", ["resnet18", "hf-hub:somebody/resnet", "hf_hub:somebody/resnet"])
def test_without_a_network_the_hub_is_asked_once(asked: list[str], name: str) -> None:
    with pytest.raises(WeightsError, match=rf"{name}: expected .* cannot be reached \(no network\)"), hub.one_try(name):
        raise OSError("not in the cache" if constants.HF_HUB_OFFLINE else "asked again")
    assert asked == [constants.ENDPOINT]
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_not_to_be_asked_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    expected = r"in the hub's cache, .* cannot be reached \(HF_HUB_OFFLINE is set\)$"
    with pytest.raises(WeightsError, match=expected), hub.one_try("resnet18"):
        raise OSError("check your connection")
    assert constants.HF_HUB_OFFLINE


def test_what_is_in_the_cache_needs_no_network(asked: list[str]) -> None:
    with hub.one_try("resnet18"):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", ["robnet_micro.digits", "robnet_large", "resnet18_cifar", "local-dir:nowhere", ""])
def test_what_is_not_on_the_hub_asks_for_nothing(asked: list[str], name: str) -> None:
    with hub.one_try(name):
        assert not constants.HF_HUB_OFFLINE
    assert asked == []


def test_a_hub_that_answers_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request, **_):
        raise urllib.error.HTTPError(request.full_url, 403, "no", None, None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", answer)
    with pytest.raises(OSError, match="of timm"), hub.one_try("resnet18"):
        raise OSError("an error of timm")


def test_a_model_that_is_not_of_a_spec_is_refused_before_anything_is_fetched(asked: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"^resnet18\S*: expected a model compiled from a spec"):
        load_model("resnet18")
    assert asked == []
