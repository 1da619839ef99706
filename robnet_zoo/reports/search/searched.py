"""What was searched and at what scale."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.wording import counted
from robnet_zoo.reports.elements import Particular, Record, Section, Table, percent
from robnet_zoo.reports.search.cells import search_table
from robnet_zoo.search.analysis.observations import Observed
from robnet_zoo.search.config import CandidateGroup, Sandwich
from robnet_zoo.search.result import StudyResult
from robnet_zoo.training.recipe import Recipe

HASH = 12  # digits of a hash that stand under a table


def kind(result: StudyResult) -> str:
    """Return the kind in words: `cell-based` or `cell-free`."""
    return result.kind.replace("_", "-")


def scale(result: StudyResult) -> str:
    """Return the line that stands below every table: at which scale its numbers were measured."""
    network, evaluation = result.space.network, result.config.evaluation
    height, width = network.input_size[1:]
    return (
        f"Scale: {kind(result)}, {counted(network.channels, 'channel')}, {counted(network.depth, 'cell')}, "
        f"{height}×{width} pixels; finetuned {counted(evaluation.finetune.epochs, 'epoch')} on {result.training:,} "
        f"images; PGD-{evaluation.steps} at {evaluation.eps} on {result.validation:,} held-out images; "
        f"seed {result.config.seed}, supernet {result.supernet_state_sha256[:HASH]}."
    )


def scales(results: Sequence[StudyResult], *kinds: str) -> str:
    """Return the scales of the results of some kinds, in a line."""
    return " ".join(scale(result) for result in results if result.kind in kinds)


def searched(searches: Sequence[Observed]) -> Section:
    """Return the section that says what was searched."""
    elements = [each for search in searches for each in (_groups(search), _record(search.result))]
    text = " ".join(dict.fromkeys(filter(None, (search.result.config.description for search in searches))))
    return Section("searched", "What was searched", text, tuple(elements))


def _groups(search: Observed) -> Table:
    result, rows = search.result, []
    for group in result.branch.groups:
        candidates = result.group(group.name)
        done = [each for each in candidates if each.after is not None]
        hours = sum(each.seconds for each in candidates) / 3600
        counts = (f"{group.count:,}", f"{len(candidates):,}", f"{len(done):,}", f"{hours:.1f}")
        rows.append((group.name, drawn(group), _figures(search, group.name), *counts))
    columns = ("group", "drawn", "figures", "asked for", "candidates", "finetuned", "hours of work")
    title = f"Groups of {kind(result)} candidates"
    return search_table(title, columns, rows, scale=scale(result), texts=(0, 1, 2))


def _figures(search: Observed, group: str) -> str:
    based = search.result.kind == "cell_based"
    if group in search.uniform_groups:
        return "3 to 6" if based else "3, 7, 8"
    return "6b" if based and group in search.budget_groups else "none"


def drawn(group: CandidateGroup) -> str:
    """Say how a group's candidates are drawn."""
    sampling = group.sampling
    names = {
        "tpe": "Optuna's TPE for robust accuracy",
        "nsga2": "Optuna's NSGA-II for robust accuracy and multiply-adds",
    }
    words = [names.get(group.sampler, group.sampler) if group.sampler else sampling.kind]
    if not group.sampler and sampling.kind == "density":
        words = ["density uniform from {:g} to {:g}".format(*sampling.densities)]
    if sampling.budget:
        words.append(f"{sampling.budget} budget")
    if sampling.density_from > 0:
        words.append(f"density from {sampling.density_from:g}")
    if sampling.direct_above >= 0:
        words.append(f"direct edges with convolutions above {sampling.direct_above:g}")
    if sampling.parameters:
        words.append("{:,} to {:,} parameters at full width".format(*sampling.parameters))
    if group.filter:
        kept = group.filter
        bound = f"at most {kept.threshold:g}" if kept.threshold else f"among the lowest {percent(kept.keep)} %"
        words.append(f"finetuned if the mean FSP distance of the last {kept.last} cells is {bound}")
    return ", ".join(words)


def _record(result: StudyResult) -> Record:
    config, evaluation = result.config, result.config.evaluation
    network = result.space.network
    accuracy = result.supernet_accuracy
    fields = [
        ("search", f"{config.name}, seed {config.seed}"),
        ("space", f"{result.space.cells} × {result.space.bits} elements of α; {', '.join(config.operations)}"),
        (
            "network",
            f"{counted(network.channels, 'channel')}, {counted(network.depth, 'cell')}, "
            f"reductions at {list(network.reductions)}",
        ),
        ("images", "{} × {} × {}".format(*network.input_size)),
        ("data", f"{result.data}, sha256 {result.data_sha256}"),
        ("supernet", _recipe(result.branch.supernet) + rule(result.branch.sandwich)),
        ("supernet's weights", f"sha256 {result.supernet_state_sha256}"),
        ("finetuning", f"{_recipe(evaluation.finetune)}; {result.training:,} training images"),
        ("batch norms", f"{evaluation.calibration} batches of attacked training images before the first measurement"),
        (
            "measured",
            f"{result.validation:,} held-out images, PGD with {counted(evaluation.steps, 'step')} of "
            f"{evaluation.step} at eps {evaluation.eps}",
        ),
        ("software", ", ".join(f"{name} {version}" for name, version in result.software.items())),
        ("device", result.device),
    ]
    if accuracy:
        whole = f"{percent(accuracy.clean)} % clean, {percent(accuracy.robust)} % robust, held-out images"
        fields.insert(7, ("supernet with all of α", whole))
    title = f"Particulars of the {kind(result)} search"
    return Record(title, tuple(Particular(what, value) for what, value in fields), unfolded=True)


def rule(sandwich: Sandwich | None) -> str:
    """Return what an update of the supernet trains, if it is not one random path, to follow its recipe."""
    if sandwich is None:
        return ""
    taught = ", all but the whole taught by the whole" if sandwich.distillation else ""
    first = f"the first {sandwich.whole_first:.0%} trains the whole, then " if sandwich.whole_first else ""
    return f"; {first}each update trains the whole, the smallest and {sandwich.random} random ones{taught}"


def _recipe(recipe: Recipe) -> str:
    attack = recipe.attack
    return (
        f"{recipe.name}: {counted(recipe.epochs, 'epoch')}, batches of {recipe.batch}, "
        f"{attack.kind.replace('_', '-').upper()} with {counted(attack.steps, 'step')} of {attack.step} "
        f"at eps {attack.eps}"
    )
