"""Models of RobustBench are loaded by its package."""

import sys
import types

import pytest
import torch
from torch import nn

from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.errors import TargetError


def test_a_model_of_robustbench_stands_by_its_name_where_the_package_is(monkeypatch) -> None:
    asked = {}

    def load_model(**given: str) -> nn.Module:
        asked.update(given)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))

    package = types.ModuleType("robustbench.utils")
    package.load_model = load_model
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", package)
    target = load_target("robustbench:cifar100/Linf/Wu2020Adversarial", device="cpu")
    assert asked == {"model_name": "Wu2020Adversarial", "dataset": "cifar100", "threat_model": "Linf"}
    assert target.judge(torch.rand(3, 3, 2, 2)).shape == (3, 5)
    load_target("robustbench:Carmon2019Unlabeled", device="cpu")
    assert asked == {"model_name": "Carmon2019Unlabeled", "dataset": "cifar10", "threat_model": "Linf"}


def test_without_its_package_a_model_of_robustbench_is_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(TargetError, match=r"^robustbench:Carmon2019Unlabeled: expected the package robustbench to be"):
        load_target("robustbench:Carmon2019Unlabeled")
