"""A folder imports only folders above it, and `import robnet_zoo.genotype` needs no torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "robnet_zoo"

# The folders, in the order in which data passes them. A folder imports only folders above it in this list.
ORDER = (
    "version",
    "errors",
    "core",
    "genotype",
    "specs",
    "nn",
    "zoo",
    "data",
    "converters",
    "attacks",
    "training",
    "benchmarks",
    "search",
    "reproduce",
    "reports",
    "editor",
    "benchmarks/speed",
    "cli",
    "",  # the public face
)
TORCH_FREE = [f"genotype.{path.stem}" for path in sorted((PACKAGE / "genotype").glob("[a-z]*.py"))]
LINKS = ("specs", "converters", "benchmarks")  # at the top, into the package


def part_of(path: Path) -> str:
    """Return the entry of ORDER to which a file belongs: the longest that its path begins with."""
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    names = [part for part in ORDER if part and (name == part or name.startswith(f"{part}/"))]
    return max(names, key=len) if names else ""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, wherever in it; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write `from robnet_zoo...`"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_imported(path: Path) -> set[str]:
    """Return the entries of ORDER that a file imports, its own left out."""
    inner = [name.split(".")[1:] for name in imports(path) if name.split(".")[0] == "robnet_zoo"]
    return {part_of(PACKAGE.joinpath(*name)) for name in inner} - {part_of(path)}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


@pytest.mark.parametrize("path", modules(), ids=names(modules()))
def test_a_file_has_a_room(path: Path) -> None:
    assert part_of(path) or path in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"), (
        f"{path.relative_to(PACKAGE)} belongs to no entry of ORDER in tests/test_layering.py"
    )


@pytest.mark.parametrize("path", modules(), ids=names(modules()))
def test_a_folder_imports_only_folders_above_it(path: Path) -> None:
    own = ORDER.index(part_of(path))
    below = {part for part in parts_imported(path) if ORDER.index(part) > own}
    assert not below, f"{path.relative_to(PACKAGE)} imports {sorted(below)}, below {part_of(path)!r} in ORDER"


def test_every_entry_of_the_order_exists() -> None:
    missing = [part for part in ORDER if not ((PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file())]
    assert not missing


@pytest.mark.parametrize("folder", LINKS)
@pytest.mark.skipif(not (ROOT / ".git").exists() or sys.platform == "win32", reason="only a checkout has links")
def test_a_link_at_the_top_points_into_the_package(folder: str) -> None:
    assert (ROOT / folder).is_symlink()
    assert (ROOT / folder).resolve() == PACKAGE / folder


def test_no_module_is_imported_through_a_link() -> None:
    files = [*modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    assert not [f"{path}: {name}" for path in files for name in imports(path) if name.split(".")[0] in LINKS]


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_a_page_refers_to_real_files(page: Path) -> None:
    """Require real paths, because a forge does not show a folder through a link."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    for target in targets:
        path = Path(os.path.normpath(page.parent / target))
        assert path.exists(), target
        assert path.relative_to(ROOT).parts[0] not in LINKS, target


def test_the_package_holds_no_links() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    "module", ["core.documents", *(f"genotype.{path.stem}" for path in (PACKAGE / "genotype").glob("[a-z]*.py"))]
)
def test_a_module_of_the_genotype_loads_without_torch(module: str) -> None:
    # The package's own __init__ registers models with timm, so an empty package takes its place.
    code = (
        "import importlib, sys, types\n"
        "package = types.ModuleType('robnet_zoo')\n"
        f"package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['robnet_zoo'] = package\n"
        f"importlib.import_module('robnet_zoo.{module}')\n"
        "print(sorted({'torch', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
