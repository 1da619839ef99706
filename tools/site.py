"""Gather the pages of the documentation site, and build it: `python -m tools.site`.

The pages are those of the checkout, README first, beside generated ones: the reference of Python and of the command,
and the results. Links to other files of the checkout lead to copies of them. mkdocs.yml orders the pages.
"""

from __future__ import annotations

import importlib
import inspect
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import get_origin

from robnet_zoo.benchmarks.result import Result, results_in
from robnet_zoo.cli import command
from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness
from tools import committed, docs

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "mkdocs.yml"
PAGES = ROOT / ".build" / "pages"  # docs_dir of mkdocs.yml
FACES = (
    "robnet_zoo",
    "robnet_zoo.attacks",
    "robnet_zoo.benchmarks",
    "robnet_zoo.converters",
    "robnet_zoo.converters.onnx",
    "robnet_zoo.data",
    "robnet_zoo.genotype",
    "robnet_zoo.search",
    "robnet_zoo.training",
)
RESULTS = "robnet_zoo/benchmarks/results"
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s#]+)(#[^)\s]*)?(\))")


def pages() -> dict[str, str]:
    """Return the page of each Markdown file of the checkout that is on the site: paths in the checkout and there."""
    inner = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "docs").rglob("*.md"))}
    cards = {path.relative_to(ROOT).as_posix(): f"models/{path.name}" for path in docs.model_cards()}
    return MOVED | {name: path.relative_to(ROOT / "docs").as_posix() for name, path in inner.items()} | cards


def gather(target: Path = PAGES) -> None:
    """Write all pages, and the files that they link to, into an empty folder.

    Raises: ReportError for a link to nothing, and for public names without docstrings.
    """
    if missing := undocumented():
        raise ReportError(f"expected a docstring of every public name, got none of {', '.join(missing)}")
    shutil.rmtree(target, ignore_errors=True)
    known, files = pages(), {}
    for source, page in known.items():
        _write(target / page, linked((ROOT / source).read_text(encoding="utf-8"), source, page, known, files))
    for face in FACES:
        _write(target / "reference" / f"{face}.md", reference(face))
    _write(target / "reference" / "command.md", _command_reference())
    _write(target / "results" / "index.md", _results())
    measured = [Result.load(path) for path in results_in(committed.ROBUSTNESS)]
    robustness.write(measured, target / "results" / "robustness.html")
    for report in (docs.SEARCH_REPORT, docs.TABLE1_REPORT):
        files[f"docs/{report.name}"] = f"results/{report.name}"
    for source, copy in files.items():
        (target / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, target / copy)
    shutil.copytree(ROOT / "tools" / "theme" / "assets", target / "assets")


def linked(text: str, source: str, page: str, known: dict[str, str], files: dict[str, str]) -> str:
    """Return a page whose links lead to the places of the site.

    Args:
        text: the page.
        source, page: where it lies in the checkout and on the site.
        known: the pages, by file of the checkout.
        files: takes the other files that are linked to, and their places on the site.

    Raises: ReportError for a link to nothing.
    """

    def replace(match: re.Match[str]) -> str:
        opening, link, anchor, closing = match[1], match[2], match[3] or "", match[4]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if path in known:
            target = known[path]
        elif (ROOT / path).is_dir() and path.startswith(RESULTS):
            target = "results/index.md"
        elif path in (f"docs/{docs.SEARCH_REPORT.name}", f"docs/{docs.TABLE1_REPORT.name}"):
            target = f"results/{posixpath.basename(path)}"
        elif (ROOT / path).is_file():
            target = path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
            files[path] = target
        else:
            raise ReportError(f"{source}: expected a link to a page or a file, got {link}")
        return f"{opening}{posixpath.relpath(target, posixpath.dirname(page))}{anchor}{closing}"

    return LINK.sub(replace, text)


def reference(face: str) -> str:
    """Return the page of a public module, with an entry for each of its names."""
    module = importlib.import_module(face)
    names = [name for name in module.__all__ if not name.startswith("__")]
    entries = (_elsewhere(face, name) or _entry(name, getattr(module, name)) for name in names)
    return "\n".join([f"# {face}\n", f"{_outside_code(inspect.getdoc(module) or '')}\n", *entries])


def _elsewhere(face: str, name: str) -> str | None:
    """Return a link to where a name of the package's own face is described, if a subpackage's face has it too."""
    thing = getattr(importlib.import_module(face), name)
    if face != FACES[0] or not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return None
    for other in FACES[1:]:
        module = importlib.import_module(other)
        if any(getattr(module, each) is thing for each in module.__all__):
            return f"## `{name}`\n\n[{other}.{name}]({other}.md#{thing.__module__}.{thing.__qualname__})\n"
    return None


def _entry(name: str, thing: object) -> str:
    """Return the entry of a public name: mkdocstrings' for classes and functions, else what the object says itself."""
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return f"::: {thing.__module__}.{thing.__qualname__}\n"
    if inspect.ismethod(thing):
        text = inspect.getdoc(thing) or ""
    else:
        text = "A type." if get_origin(thing) is not None else f"A constant, of type `{type(thing).__name__}`."
    return f"## `{name}`\n\n{_outside_code(text)}\n"


def _outside_code(text: str) -> str:
    """Return a docstring as Markdown, its examples as blocks of code and its sections in bold."""
    text = re.sub(r"(?m)^(?:>>>|\.\.\.) .*(?:\n(?!\n).*)*", lambda match: f"```pycon\n{match[0]}\n```", text)
    return re.sub(r"(?m)^(Args|Raises|Returns):(?=[ \n])", r"**\1:**", text)


def undocumented() -> list[str]:
    """Return the public functions, classes and methods without a docstring, by name."""
    return sorted({name for face in FACES for name in _undocumented(importlib.import_module(face))})


def _undocumented(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        thing = getattr(module, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not _own_docstring(thing):
            yield f"{module.__name__}.{name}"
        if inspect.isclass(thing) and thing.__module__.startswith("robnet_zoo"):
            for key, value in vars(thing).items():
                own = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
                if own and not key.startswith("_") and not inspect.getdoc(getattr(thing, key)):
                    yield f"{module.__name__}.{name}.{key}"


def _own_docstring(thing: type | FunctionType) -> str | None:
    """Return the docstring that a function or a class has itself, rather than from its base or as a dataclass."""
    text = vars(thing)["__doc__"] if inspect.isclass(thing) else thing.__doc__
    return None if text is not None and text.startswith(f"{thing.__name__}(") else text


def _command_reference() -> str:
    """Return the help of every command as a page."""
    text = command().generate_docs(heading_level=1)
    whole, _, commands = text.partition("## Table of Contents")
    return whole + commands[commands.index("## robnet-zoo ") :]


def _results() -> str:
    """Return the page of results: what was measured here, with the paper's claims beside it."""
    return f"""# Results

Everything here was measured by this code and is drawn from committed documents; the pages can be read offline.

- [Robustness of the bundled weights](robustness.html), every attack, beside the tables of the paper
- [The small search](search_small.html), with the paper's figures drawn from our candidates
- [Table 1 at the scale `small`](table1_small.html), four networks from data to table

## The bundled weights

{docs.accuracies()}

## The paper's findings, in the small search

{docs.search_findings()}

## The paper's table 1, at the scale `small`

{docs.table1_small()}
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    gather()
    # Not --quiet, with which mkdocs does not see the warnings that its strict mode counts.
    sys.exit(subprocess.call([sys.executable, "-m", "mkdocs", "build", "--config-file", str(CONFIG)]))
