"""A pytest plugin: registers our models with timm and restricts a test run to them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import timm
from torchvision.models import feature_extraction

from robnet_zoo.zoo import registry as zoo

NAMES = sorted(set(timm.list_models("robnet*")) - set(zoo.aliases()))  # an alias is the same network once more
_passed: Counter[str] = Counter()  # tests by model


class _PrefixFirst:
    """`re` for torchvision's fx tracer, which matches each new node's name with all earlier ones: minutes a model."""

    @staticmethod
    def match(pattern: str, text: str) -> re.Match[str] | None:
        prefix = pattern.removesuffix("(_[0-9]+)?$")
        return None if prefix != pattern and not text.startswith(prefix) else re.match(pattern, text)


def pytest_configure() -> None:
    feature_extraction.re = _PrefixFirst
    # The tests are parametrised over what these list; none of timm's own thousand models has to be collected.
    for function in ("list_models", "list_pretrained"):
        setattr(timm, function, _only_ours(getattr(timm, function)))


def _only_ours(listing: Any) -> Any:
    return lambda *args, **kwargs: [name for name in listing(*args, **kwargs) if name.split(".")[0] in NAMES]


def _model(item: pytest.Item) -> str | None:
    name = item.callspec.params.get("model_name") if hasattr(item, "callspec") else None
    architecture = name.split(".")[0] if isinstance(name, str) else None
    return architecture if architecture in NAMES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if _model(item) is None])
    items[:] = [item for item in items if _model(item) is not None]
    for item in items:
        item.user_properties.append(("model", _model(item)))  # reaches the reports, also those of other processes


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed[dict(report.user_properties)["model"]] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    untested = [name for name in NAMES if not _passed[name]]
    if untested and session.exitstatus == pytest.ExitCode.OK:
        print(f"\nno test passed for {', '.join(untested)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
