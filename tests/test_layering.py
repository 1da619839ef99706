"""Imports point one way, and `import robnet_zoo.genotype` needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "robnet_zoo"
FOLDERS = ("specs", "converters", "benchmarks")  # top-level folders that are parts of the package through links

# From the bottom up. A module may import what stands in a lower layer or, without a cycle, in its own.
LAYERS = (
    {"version", "specs"},
    {"documents", "vocabulary", "progress", "arithmetic", "environment", "pages", "statistics"},
    {"genotype"},
    {"passes", "blueprint"},
    {"operations"},
    {"network"},
    {"inference", "training_form", "compiler"},
    {"weights", "baselines"},
    {"zoo"},
    {"architecture"},
    {"__init__"},
    {"attacks", "training", "converters", "data", "draw"},
    {"benchmarks", "search"},
    {"reproduce"},
    {"cli", "demo", "docs"},
)
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}


def part_of(path: Path) -> str:
    """The layer's word for a file: the name of a module or a folder directly below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    folders = [folder for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    return sorted([*PACKAGE.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))])


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write `from robnet_zoo...`"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, itself left out."""
    found = set()
    for name in imports(path):
        root, *inner = name.split(".")
        if root == "robnet_zoo":
            known = bool(inner) and ((PACKAGE / inner[0]).is_dir() or (PACKAGE / f"{inner[0]}.py").is_file())
            found.add(inner[0] if known else "__init__")
    return found - {part_of(path)}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


@pytest.mark.parametrize("path", modules(), ids=names(modules()))
def test_module_has_a_layer(path: Path) -> None:
    assert part_of(path) in LEVEL, (
        f"{part_of(path)} is new: add it to LAYERS in tests/test_layering.py, where it belongs"
    )


@pytest.mark.parametrize("path", modules(), ids=names(modules()))
def test_module_imports_nothing_from_above_its_layer(path: Path) -> None:
    level = LEVEL.get(part_of(path), len(LAYERS))
    above = {part for part in parts_imported(path) if LEVEL.get(part, len(LAYERS)) > level}
    assert not above, f"{path.name} imports {sorted(above)}, which stand above {part_of(path)} in LAYERS"


def test_imports_between_parts_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph.setdefault(part_of(path), set()).update(parts_imported(path))
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert order.index("documents") < order.index("genotype") < order.index("network") < order.index("zoo")


@pytest.mark.parametrize("folder", FOLDERS)
def test_top_level_folder_is_part_of_the_package(folder: str) -> None:
    assert (PACKAGE / folder).resolve() == ROOT / folder


def test_top_level_folders_are_imported_only_as_parts_of_the_package() -> None:
    files = [*modules(), *(ROOT / "tests").rglob("*.py")]
    assert not [
        f"{path}: {name}"
        for path in files
        for name in imports(path)
        if name.split(".")[0] in FOLDERS
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["documents", "vocabulary", "genotype", "passes", "blueprint"])
def test_module_below_the_operations_loads_without_torch(module: str) -> None:
    # The package's own __init__ registers models with timm, so an empty package takes its place.
    code = (
        "import importlib, sys, types\n"
        "package = types.ModuleType('robnet_zoo')\n"
        f"package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['robnet_zoo'] = package\n"
        f"importlib.import_module('robnet_zoo.{module}')\n"
        "print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
