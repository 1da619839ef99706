"""`robnet-zoo specs`, `recipes`, `protocols`, `configs`, `plans` and `scales`: the documents that the package brings.

Each lists the documents of its kind, or prints one in full, to begin one of your own with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from robnet_zoo.core.bundled import Bundled

DocumentName = Annotated[str | None, Parameter(help="A bundled name or a path; without it, all are listed.")]


def specs(name: DocumentName = None) -> None:
    """List the bundled architectures with where they come from, or print one as JSON."""
    from robnet_zoo.genotype.specs import SPECS

    _show(SPECS, name)


def recipes(name: DocumentName = None) -> None:
    """List the bundled training recipes, or print one as JSON."""
    from robnet_zoo.training.recipe import RECIPES

    _show(RECIPES, name)


def protocols(name: DocumentName = None) -> None:
    """List the bundled protocols of `benchmark`, or print one as JSON."""
    from robnet_zoo.benchmarks.protocol import PROTOCOLS

    _show(PROTOCOLS, name)


def configs(name: DocumentName = None) -> None:
    """List the bundled configs of `search`, or print one as JSON."""
    from robnet_zoo.search.config import CONFIGS

    _show(CONFIGS, name)


def plans(name: DocumentName = None) -> None:
    """List the bundled plans of `reproduce`, or print one as JSON."""
    from robnet_zoo.reproduce.plan import PLANS

    _show(PLANS, name)


def scales(name: DocumentName = None) -> None:
    """List the bundled scales of `reproduce`, or print one as JSON."""
    from robnet_zoo.reproduce.scale import SCALES

    _show(SCALES, name)


def _show(bundled: Bundled[Any], name: str | None) -> None:
    if name is not None:
        print(bundled.load(name).dumps(), end="")
        return
    width = max(map(len, bundled.names()))
    for each in bundled.names():
        print(f"{each:{width}}  {bundled.summary(each)}")
