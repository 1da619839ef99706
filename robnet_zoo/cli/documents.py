"""`robnet-zoo specs`, `recipes`, `protocols`, `configs`, `plans` and `scales`: the documents that the package brings.

Each lists the documents of its kind, or prints one in full, to begin one of your own with.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

from cyclopts import Parameter

from robnet_zoo.core.bundled import Bundled

DocumentName = Annotated[str | None, Parameter(help="A bundled name or a path; without it, all are listed.")]
DocumentsCommand = Callable[[str | None], None]


def _command(module: str, kind: str, *, documents: str) -> DocumentsCommand:
    """Return the command of a kind of documents.

    Args:
        module: what holds them, imported when the command runs.
        kind: their name in the module.
        documents: what help calls them.
    """

    def command(name: DocumentName = None) -> None:
        bundled: Bundled[Any] = getattr(import_module(f"robnet_zoo.{module}"), kind)
        if name is not None:
            print(bundled.load(name).dumps(), end="")
            return
        width = max(map(len, bundled.names()))
        for each in bundled.names():
            print(f"{each:{width}}  {bundled.summary(each)}")

    command.__doc__ = f"List the bundled {documents}, or print one as JSON."
    return command


specs = _command("genotype.specs", "SPECS", documents="architectures with where they come from")
recipes = _command("training.recipe", "RECIPES", documents="training recipes")
protocols = _command("benchmarks.protocol", "PROTOCOLS", documents="protocols of `benchmark`")
configs = _command("search.config", "CONFIGS", documents="configs of `search`")
plans = _command("reproduce.plan", "PLANS", documents="plans of `reproduce`")
scales = _command("reproduce.scale", "SCALES", documents="scales of `reproduce`")
