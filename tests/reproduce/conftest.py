"""What the tests of the reproduction share."""

from __future__ import annotations

from pathlib import Path

import pytest

from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.reproduce import reproduction
from robnet_zoo.reproduce.reproduction import Reproduction
from robnet_zoo.reproduce.result import ReproductionResult
from robnet_zoo.training import TrainingEstimate
from tests.small_plan import DIGITS, TINY, taking, tiny_plan


def an_hour(*_: object, **__: object) -> TrainingEstimate:
    """Return an estimate without timing anything. Tests of `training.duration` and of the command make real ones."""
    return taking(hours=1.0, gradient_seconds=0.001)


def shortened(name: str) -> Protocol:
    """Return a protocol whose PGD takes two steps, those of transfers included."""
    protocol = load_protocol(name)
    attacks = tuple(
        attack.model_copy(update={"steps": 2}) if isinstance(attack, Pgd) else attack for attack in protocol.attacks
    )
    return protocol.model_copy(update={"attacks": attacks})


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "estimate", an_hour)


@pytest.fixture
def short_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plans of this test attack with two steps."""
    monkeypatch.setattr(reproduction, "load_protocol", shortened)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReproductionResult]:
    """Return the folder and the result of the tiny plan with two seeds."""
    folder = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduction, "estimate", an_hour)
        return folder, Reproduction(tiny_plan(), [DIGITS], folder, scale=TINY, seeds=(0, 1)).run(progress=False)
