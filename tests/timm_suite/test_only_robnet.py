"""What spares timm's tests time changes nothing that they see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torchvision.models.feature_extraction import NodePathTracer

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from tests.timm_suite import only_robnet


def test_nodes_are_named_as_by_torchvision(tiny: Genotype, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(naming: Callable[..., str]) -> list[str]:
        monkeypatch.setattr(NodePathTracer, "_get_node_qualname", naming)
        tracer = NodePathTracer()
        tracer.trace(compile(tiny))
        return [*tracer.node_to_qualname.values()]

    names = named(NodePathTracer._get_node_qualname)
    assert any(name.endswith("_1") for name in names)
    assert named(only_robnet.fast_qualname) == names
