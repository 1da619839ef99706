"""The cost and the effects of `import robnet_zoo`, and the names of its public face."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from typing import Any

import pytest

import robnet_zoo

SHARE = 0.06  # of `import timm`, which takes 5 s where this is 0.3 s: both are slow on a slow machine
HEAVY = {  # what `import robnet_zoo` leaves to those who need it
    *("cyclopts", "jinja2", "matplotlib", "onnx", "onnxruntime", "optuna", "pyautoattack", "scipy", "sklearn"),
    *("sqlalchemy", "tensorboard"),
}
MEASURE = """
import json, sys, time
start = time.process_time()
import timm
between = time.process_time()
before = set(timm.list_models())
import robnet_zoo
end = time.process_time()
modules = sorted({name.partition(".")[0] for name in sys.modules})
parts = sorted(name.split(".")[1] for name in sys.modules if name.startswith("robnet_zoo."))
new = sorted(set(timm.list_models()) - before)
import robnet_zoo.converters
onnx = sorted({"onnx", "onnxruntime"} & set(sys.modules))
figures = {"timm": between - start, "own": end - between}
print(json.dumps(figures | {"modules": modules, "parts": parts, "new": new, "onnx": onnx}))
"""


def measured() -> dict[str, Any]:
    """Measure the import in a separate process."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    return measured()


def test_the_import_adds_little_to_that_of_timm(imported: dict[str, Any]) -> None:
    # Seconds of the processor; a loaded machine inflates them, so the least of up to three imports counts.
    imports = chain([imported], (measured() for _ in range(2)))
    assert any(times["own"] < SHARE * times["timm"] for times in imports)


def test_the_import_loads_no_package_that_is_slow_to_load(imported: dict[str, Any]) -> None:
    assert not HEAVY & set(imported["modules"])
    assert set(imported["parts"]).isdisjoint({"attacks", "benchmarks", "converters", "search", "training"})


def test_onnx_runtime_is_imported_only_when_a_converter_is_used(imported: dict[str, Any]) -> None:
    assert imported["onnx"] == []


def test_the_import_registers_the_specs_and_the_comparison_networks(imported: dict[str, Any]) -> None:
    assert {*robnet_zoo.spec_names(), "robnet", "resnet18_cifar"} <= set(imported["new"])


@pytest.mark.parametrize("name", robnet_zoo.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(robnet_zoo, name) is not None
    assert name in dir(robnet_zoo)


@pytest.mark.parametrize("name", ["attacks", "benchmarks", "converters", "data", "search", "training"])
def test_a_subpackage_is_an_attribute(name: str) -> None:
    assert getattr(robnet_zoo, name).__name__ == f"robnet_zoo.{name}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'robnet_zoo' has no attribute 'atacks'"):
        _ = robnet_zoo.atacks
