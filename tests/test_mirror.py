"""The tests mirror the package and the tools, file for file."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PACKAGE, TOOLS = ROOT / "robnet_zoo", ROOT / "tools"
# Tests of a package itself are in `test_init.py` or among OTHERS; the last two have nothing to ask about.
WITHOUT_TESTS = {"__init__.py", "__main__.py", "version.py"}

# Files of tests that mirror no module, and what they ask about instead.
OTHERS = {
    "test_contributing.py": "the recipes of CONTRIBUTING.md, followed in a copy of the tree",
    "test_import.py": "what importing the package costs",
    "test_layering.py": "which folder imports which",
    "test_odd_input.py": "what the command and the Python face do with odd input",
    "test_mirror.py": "the tests themselves",
    "test_packaging.py": "the wheel and the sdist",
    "test_pages.py": "the commands and the Python of README and docs, run",
    "test_public_face.py": "the public names of the whole package",
    "attacks/test_against_peers.py": "the attacks beside those of other libraries",
    "attacks/test_certificates.py": "the attacks beside proofs of robustness",
    "attacks/test_mistakes_of_peers.py": "mistakes that other libraries made",
    "cli/test_clean_output.py": "what commands print with --json and with --quiet",
    "cli/test_command.py": "the package cli itself",
    "converters/onnx/test_mutations.py": "damaged ONNX files, as they come",
    "editor/test_browser.py": "the page, in a browser",
    "reports/test_browser.py": "every report, in a browser",
    "timm_suite/test_only_robnet.py": "what spares timm's tests time",
    "training/test_compiled.py": "training through torch.compile",
    "training/test_timm_models.py": "training of models that timm brings",
    "zoo/test_weights.py": "the package zoo/weights itself, whose folder holds data",
}


def modules() -> list[Path]:
    files = [*PACKAGE.rglob("*.py"), *TOOLS.rglob("*.py")]
    return sorted(path for path in files if path.name not in WITHOUT_TESTS)


def files_of_tests() -> list[str]:
    """Return the path in `tests` of every file of tests."""
    return sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))


def mirrored(module: Path) -> str:
    """Return the path in `tests` at which the tests of a module are."""
    inner = module.relative_to(PACKAGE if module.is_relative_to(PACKAGE) else ROOT)
    return inner.with_name(f"test_{module.name}").as_posix()


def mirrors_a_package(file: str) -> bool:
    """Return whether a file of tests is the `test_init.py` of a package."""
    path = Path(file)
    return path.name == "test_init.py" and (PACKAGE / path.parent / "__init__.py").is_file()


@pytest.mark.parametrize("module", modules(), ids=[path.relative_to(ROOT).as_posix() for path in modules()])
def test_a_module_has_its_file_of_tests(module: Path) -> None:
    assert (TESTS / mirrored(module)).is_file(), f"expected tests of this module in tests/{mirrored(module)}"


def test_a_file_of_tests_mirrors_a_module_or_has_a_reason() -> None:
    mirrors = {mirrored(module) for module in modules()}
    assert {file for file in files_of_tests() if file not in mirrors and not mirrors_a_package(file)} == OTHERS.keys()
