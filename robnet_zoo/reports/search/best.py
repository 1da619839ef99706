"""The best candidates of each group, and the architectures that were picked."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.reports.elements import Element, Missing, Section, Table, percent
from robnet_zoo.reports.search.cells import search_table
from robnet_zoo.reports.search.searched import HASH, kind, scale, scales
from robnet_zoo.search.analysis.observations import Observation, Observed, finetuned
from robnet_zoo.search.result import Candidate, StudyResult

TOP = 10
Pick = tuple[Genotype, Candidate]


def best(searches: Sequence[Observed]) -> Section:
    """Return the ten most robust candidates of each group."""
    elements: list[Element] = []
    for search in searches:
        result = search.result
        for group in result.branch.groups:
            title = f"{kind(result)}, group {group.name}"
            done = sorted(finetuned(search.in_groups(group.name)), key=lambda each: -each.robust)
            if done:
                elements.append(_table(result, title, done))
            else:
                elements.append(Missing(title, "no candidate was finetuned"))
    text = f"The {TOP} of each group with the highest robust accuracy after finetuning, on held-out images."
    return Section("best", "The best candidates", text, tuple(elements))


def _table(result: StudyResult, title: str, done: Sequence[Observation]) -> Table:
    rows = tuple(
        (
            f"{each.candidate.group} {each.candidate.index}",
            percent(each.robust),
            percent(each.after.clean),
            percent(each.candidate.before.robust) if each.candidate.before else "–",
            f"{each.density:.2f}",
            f"{each.direct:.3g} + {each.skip:.3g}",
            f"{each.multiply_adds / 1e6:,.2f}",
            each.candidate.hash[:HASH],
        )
        for each in done[:TOP]
    )
    columns = (
        "candidate",
        "robust, %",
        "clean, %",
        "robust before, %",
        "density",
        "convolutions a cell, direct + skip",
        "multiply-adds, millions",
        "spec",
    )
    title = f"{title}: {min(TOP, len(done))} of {len(done):,} finetuned"
    return search_table(title, columns, rows, scale=scale(result))


def picked(results: Sequence[StudyResult], picks: Sequence[Pick]) -> Section:
    """Return the picked specs at full width, with what the search measured of them at its own."""
    if not picks:
        elements: tuple[Element, ...] = (Missing("Picked architectures", "none were given"),)
        return Section("picked", "Picked architectures", "", elements)
    rows = []
    for spec, candidate in picks:
        depth, after = len(spec.layout), candidate.after
        rows.append(
            (
                spec.name,
                f"{candidate.group} {candidate.index}",
                f"{parameters(spec):,}",
                f"{multiply_adds(spec) / 1e6:,.1f}",
                f"{spec.density:.2f}",
                f"{spec.direct_convs / depth:.3g} + {spec.skip_convs / depth:.3g}",
                spec.budget,
                percent(after.robust) if after else "–",
                percent(after.clean) if after else "–",
                spec.hash[:HASH],
            )
        )
    columns = (
        "spec",
        "candidate",
        "parameters",
        "multiply-adds, millions",
        "density",
        "convolutions a cell, direct + skip",
        "budget",
        "robust in the search, %",
        "clean in the search, %",
        "hash",
    )
    note = "Parameters and multiply-adds are of the spec at full width; accuracies are of the search's smaller network."
    lines = scales(results, "cell_based", "cell_free")
    table = search_table("Picked architectures", columns, rows, scale=lines, note=note, texts=(0, 1, 6, 9))
    return Section("picked", "Picked architectures", "", (table,))
