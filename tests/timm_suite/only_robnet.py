"""A pytest plugin: registers our models with timm and restricts a test run to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch.fx import Node
from torch.jit import _recursive, frontend
from torchvision.models.feature_extraction import NodePathTracer

from robnet_zoo.zoo import registry as zoo

NAMES = sorted(set(timm.list_models("robnet*")) - set(zoo.aliases()))  # an alias is the same network once more
SAME = {"robnet"}  # the network of robnet_free by another entry point: how it is traced and scripted is asked once
_NUMBERED = re.compile(r"(.+)_([0-9]+)")
_passed: Counter[str] = Counter()  # tests by model


def fast_qualname(tracer: NodePathTracer, module: str, node: Node) -> str:
    """Name a node as torchvision's fx tracer does, which matches each new name with all earlier ones: minutes a model.

    Args:
        tracer: keeps the last index that was given to each name, in `indices`.
        module: the path of the module that the node is of.
        node: of the graph.
    """
    name = module if node.op == "call_module" else ".".join(filter(None, (module, str(node))))
    if numbered := _NUMBERED.fullmatch(name):
        name = numbered[1]
    indices = vars(tracer).setdefault("indices", {})
    if name in indices:
        name += f"_{indices[name] + 1}"
    indices[name] = 0
    if numbered := _NUMBERED.fullmatch(name):
        indices[numbered[1]] = int(numbered[2])
    return name


def once_a_type(overloads: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.jit` looks through all attributes of every module for overloaded methods, which its type alone decides."""
    known: dict[type, Any] = {}

    def cached(module: torch.nn.Module, ignored: Any) -> Any:
        if type(module) not in known:
            known[type(module)] = overloads(module, ignored)
        return known[type(module)]

    return cached


def once_a_function(parse: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.jit` parses a `forward` anew for every module that has it."""
    known: dict[Any, Any] = {}

    def cached(function: Any) -> Any:
        plain = getattr(function, "__func__", function)
        if plain not in known:
            known[plain] = parse(function)
        return known[plain]

    return cached


def pytest_configure() -> None:
    NodePathTracer._get_node_qualname = fast_qualname
    _recursive.get_overload_annotations = once_a_type(_recursive.get_overload_annotations)
    frontend.parse_def = once_a_function(frontend.parse_def)
    # The tests are parametrised over what these list; none of timm's own thousand models has to be collected.
    for function in ("list_models", "list_pretrained"):
        setattr(timm, function, _only_ours(getattr(timm, function)))


def _only_ours(listing: Any) -> Any:
    return lambda *args, **kwargs: [name for name in listing(*args, **kwargs) if name.split(".")[0] in NAMES]


def _model(item: pytest.Item) -> str | None:
    name = item.callspec.params.get("model_name") if hasattr(item, "callspec") else None
    architecture = name.split(".")[0] if isinstance(name, str) else None
    return architecture if architecture in NAMES else None


def _is_asked(item: pytest.Item) -> bool:
    model = _model(item)
    return model is not None and not (model in SAME and re.search("_fx|torchscript", item.name))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not _is_asked(item)])
    items[:] = [item for item in items if _is_asked(item)]
    items.sort(key=lambda item: not re.search("fx|torchscript|cfgs", item.name))  # the long ones first
    items[:] = items[::2] + items[1::2]  # in each of two shares
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
