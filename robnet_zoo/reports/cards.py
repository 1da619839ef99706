"""The model card of bundled weights: how they were trained and what was measured, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from robnet_zoo.benchmarks.checks.results import kind_of
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.reports.markdown import table_lines
from robnet_zoo.reports.robustness.labelled import labelled
from robnet_zoo.reports.robustness.tables import beside_the_paper, summary
from robnet_zoo.training.result import TrainingResult, facts
from robnet_zoo.training.validation import ATTACK
from robnet_zoo.zoo import weights

AUTHORS = "The paper's figures below are of its authors' weights, whose training took 32 GPUs."
MILESTONES = " They were measured after every run, so the later runs began with figures of them known."


def card(entry: weights.WeightsEntry, runs: Mapping[str, TrainingResult], results: Sequence[Result]) -> str:
    """Return the card in Markdown.

    Args:
        runs: the training runs that led to these weights, by their files' names; each began with the weights of the
            run before it.
        results: what was measured of the weights.
    """
    trained = list(runs.values())
    first, last = trained[0], trained[-1]
    name, entries = f"{entry.model}.{entry.tag}", labelled(results)
    published = beside_the_paper(entries)
    lines = [
        f"# {name}",
        "",
        f'    timm.create_model("{name}", pretrained=True)',
        "",
        f"Adversarially trained weights of {entry.model}, in {_hours(entry, trained)}"
        + ("." if first.begun_with is None else ", from earlier ones whose training has no document.")
        + ("" if last.over else " **A milestone: the training that they come from is not over.**")
        + (f" {AUTHORS}" if published else ""),
        "",
        *_hashes(entry),
        "",
        "## Training",
        "",
    ]
    for number, (document, run) in enumerate(runs.items()):
        changed = "" if run.is_bundled else f", changed: `benchmarks/results/training/{document}` has it in full"
        described = f". {run.recipe.description}" if run.is_bundled and run.recipe.description else ""
        begun = "Then, from those weights, recipe" if number else "Recipe"
        told = facts(run, load_spec(run.architecture))
        lines += [f"{begun} `{run.recipe.name}`{changed}{described}.", "", *told, "", *epochs(run), ""]
    lines += [
        "## Test images",
        "",
        "No training saw them, and no epoch was chosen by them." + MILESTONES * (len(runs) > 1),
        "",
        *(line for table in (summary(entries), *published) for line in table_lines(table)),
    ]
    for result in results:
        protocol = result.protocol
        lines.append(
            f"- protocol `{protocol.name}`: the first {result.data.n:,} images of {result.data.name} (sha256 "
            f"`{result.data.sha256[:12]}`), seed {protocol.seed}, on {result.device}, torch {result.software['torch']}"
        )
        lines += [f"    - {kind_of(alarm).severity.word.lower()}: {alarm.text}" for alarm in result.alarms]
    lines += [
        "",
        "White-box accuracies are upper bounds: a stronger attack may find more. The documents, with every image's",
        "outcome, are in `benchmarks/results/robustness`.",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _hours(entry: weights.WeightsEntry, runs: Sequence[TrainingResult]) -> str:
    """Return how long the runs took, and which part of that trained other architectures."""
    others = dict.fromkeys(run.architecture for run in runs if run.architecture != entry.model)
    parts = (f"{_sum(run for run in runs if run.architecture == other)} trained {other}" for other in others)
    return f"{_sum(runs)} hours" + (f", of which {' and '.join(parts)}" if others else "")


def _sum(runs: Iterable[TrainingResult]) -> str:
    """Return the hours of runs together."""
    return f"{sum(run.epochs[-1].hours for run in runs):.1f}"


def _hashes(entry: weights.WeightsEntry) -> Iterator[str]:
    """Yield the names of the classes, and the hashes that link the weights to the manifest, results and training."""
    yield f"- `file_sha256` of {entry.file}: `{entry.file_sha256}`"
    if entry.state_sha256 is not None:
        yield f"- `state_sha256` of the tensors in it: `{entry.state_sha256}`"
    if entry.classes:
        yield f"- classes, in the order of the logits: {', '.join(entry.classes)}"
    if entry.training_file_sha256 not in (None, entry.file_sha256):
        yield f"- stored from the file that training left, `file_sha256` `{entry.training_file_sha256}`"


def epochs(run: TrainingResult) -> list[str]:
    """Return a table of epochs: what each saw, and the accuracy on held-out images after it."""
    lines = [f"| epoch | pixels a side | loss | clean | {ATTACK} | hours so far |", "|---:|---:|---:|---:|---:|---:|"]
    for row in run.epochs:
        known = (None if share is None else with_interval(share, run.held_out) for share in (row.clean, row.robust))
        shares = " | ".join(share or "–" for share in known)
        lines.append(f"| {row.epoch} | {row.size} | {row.loss:.3f} | {shares} | {row.hours:.2f} |")
    return lines
