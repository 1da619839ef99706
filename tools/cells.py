"""The page of published robust cells: its tables, its text and its pictures, for `tools.docs`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.converters import darts
from robnet_zoo.converters.literature import GENOTYPES, MSROBNET_YEAR, MSROBNETS, REPORTED
from robnet_zoo.converters.msrobnet import convert_msrobnet
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.passes import canonical
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.reports.cells import picture
from robnet_zoo.reports.robustness.published import published as printed
from robnet_zoo.zoo import weights
from tools import committed

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" / "cells"
ROBNETS = {  # those that the authors published
    "robnet_free": "RobNet-free",
    "robnet_large": "RobNet-large",
    "robnet_large_v2": "RobNet-large-v2",
    "robnet_large_imagenet": "RobNet-large, ImageNet",
}


@dataclass(frozen=True)
class Architecture:
    """A published robust architecture. command: what shows it, or prints its spec."""

    name: str
    title: str
    year: int
    spec: Genotype
    command: str


@cache
def architectures() -> tuple[Architecture, ...]:
    """Return the published architectures that were searched for robustness."""
    named = [
        Architecture(name, title, 2020, load_spec(name), f"robnet-zoo show {name}") for name, title in ROBNETS.items()
    ]
    for name, entry in MSROBNETS.items():
        command = f"robnet-zoo convert msrobnet {name}"
        named.append(Architecture(name, entry.title, MSROBNET_YEAR, convert_msrobnet(name), command))
    for name, genotype in GENOTYPES.items():
        if genotype.robust:
            command = f"robnet-zoo convert darts {name}"
            named.append(Architecture(name, genotype.title, genotype.year, darts.published(name), command))
    return tuple(named)


def robust_cells() -> str:
    """Return the table of the published robust architectures: their sizes, and what was measured of them here."""
    lines = [
        "| architecture | year | C, cells | parameters | multiply-adds | density | direct, skip convolutions "
        "| its paper: clean, PGD-20 | here: clean, PGD-20 |",
        "|---" * 9 + "|",
    ]
    for each in architectures():
        network = each.spec.network
        size = f"{network.channels}, {network.depth}"
        lines.append(
            f"| [{each.title}](#{_anchor(each.title)}) | {each.year} | {size} | {parameters(each.spec):,} "
            f"| {multiply_adds(each.spec) / 1e6:,.1f} M | {each.spec.density:.2f} "
            f"| {each.spec.direct_convs}, {each.spec.skip_convs} | {_claimed(each)} | {_measured(each)} |"
        )
    return "\n".join(lines)


def reported() -> str:
    """Return the table of other published figures."""
    titles = {each.name: each.title for each in architectures()}
    attacks = ("clean", "PGD-7", "PGD-20", "AutoAttack")
    heads = ["architecture", "size", "training", *attacks, "reported by"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for each in REPORTED:
        values = [f"{each.accuracies[attack]}%" if attack in each.accuracies else "–" for attack in attacks]
        lines.append(f"| {' | '.join([titles[each.name], each.size, each.training, *values, each.reporter])} |")
    return "\n".join(lines)


def drawings() -> str:
    """Return a section for each architecture: where it is from, how to get it, and its cells."""
    return "\n".join(line for each in architectures() for line in _section(each)).rstrip()


def pictures() -> dict[Path, str]:
    """Return the pictures by file, one for all architectures that have the same cells."""
    return {PICTURES / f"{name}.svg": picture(spec) for name, spec in _drawn().values()}


_equals = cache(darts.equals)


def _section(each: Architecture) -> Iterator[str]:
    name, _ = _drawn()[_cells(each.spec)]
    yield from (f"### {each.title}", "")
    where = f"{each.spec.provenance.paper}; {each.spec.provenance.source}"
    if each.name in ROBNETS:
        where = f"{printed().authors}, {printed().paper}, {printed().venue}"
    yield from (f"{where.rstrip('.')}. `{each.command}`", "")
    if each.name in GENOTYPES and (others := _equals()[each.name]):
        yield from (f"It computes the same function as {' and '.join(GENOTYPES[other].title for other in others)}.", "")
    if name != each.name:
        titles = {other.name: other.title for other in architectures()}
        yield from (f"Its cells are those of [{titles[name]}](#{_anchor(titles[name])}).", "")
    else:
        yield from (f"![The cells of {each.title}](images/cells/{name}.svg)", "")


@cache
def _drawn() -> dict[tuple[object, ...], tuple[str, Genotype]]:
    """Return the first architecture, by name, that has each set of cells."""
    drawn: dict[tuple[object, ...], tuple[str, Genotype]] = {}
    for each in architectures():
        drawn.setdefault(_cells(each.spec), (each.name, each.spec))
    return drawn


def _cells(spec: Genotype) -> tuple[object, ...]:
    """Return the different cells of an architecture, whatever its size."""
    spec = canonical(spec)
    return (spec.operations, tuple(spec.cells.values()))


def _claimed(each: Architecture) -> str:
    """Return what the paper of an architecture prints: RobNet's in its table 1, the others' as `REPORTED` has it."""
    columns = ("Natural", "PGD-20")
    table = printed().table(1)
    labels = [column.label for column in table.columns]
    rows = [[row.values[labels.index(label)] for label in columns] for row in table.rows if row.spec == each.name]
    own = [entry.accuracies for entry in REPORTED if entry.own and entry.name == each.name]
    rows += [[accuracies["clean"], accuracies["PGD-20"]] for accuracies in own if "PGD-20" in accuracies]
    return ", ".join(f"{value}%" for value in rows[0]) if rows else "–"


def _measured(each: Architecture) -> str:
    """Return the accuracies of the bundled weights of an architecture, with their intervals."""
    for entry in weights.manifest().entries:
        if entry.model == each.name:
            result = Result.load(committed.ROBUSTNESS / f"{entry.model}.{entry.tag}.json")
            figures = [with_interval(result.accuracy(attack), result.data.n) for attack in ("clean", "pgd20")]
            return f"{', '.join(figures)}, n = {result.data.n}"
    return "–"


def _anchor(title: str) -> str:
    """Return the anchor that a heading gets."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
