"""What the paper found, in its own numbers, and where this search differs from it."""

from __future__ import annotations

from collections.abc import Sequence

from robnet_zoo.core.wording import counted
from robnet_zoo.data.images import VALIDATION_SHARE
from robnet_zoo.reports.elements import Element, Remarks, Section
from robnet_zoo.reports.search.cells import search_table
from robnet_zoo.reports.search.searched import drawn, kind
from robnet_zoo.search.result import StudyResult
from robnet_zoo.training.recipe import Recipe

FINDINGS = {  # what the paper says of each of its findings
    1: "A strong correlation (figure 5; no coefficient is printed), and a linear classifier of the 300 most and 300 "
    "least robust of 1,000 architectures with 98.7 % accuracy on those same 600, almost all of whose weights are "
    "positive.",
    2: "A positive correlation under the small and the medium budget, not obvious under the large one (figure 6b; 100 "
    "architectures each, no coefficients), and convolutions on direct edges contribute more than those on skip edges "
    "(figure 6a).",
    3: "A positive correlation in the deeper cells (figures 7 and 8; 50 architectures before finetuning, no "
    "coefficients). Candidates above a mean distance of 0.006 were rejected: 68 of 300 stayed.",
}
FINETUNING = "The paper: robust accuracy is largely improved by 3 epochs (1,000 architectures, no number is printed)."
HISTOGRAM = "The paper: a mean of 50.3 %, most candidates near 50 %, many far lower."
CLASSIFIER = "The paper: 98.7 % on the 600 architectures that it was fitted to; no accuracy on others is printed."
WEIGHTS = "The paper: almost all weights are positive."
EMBEDDING = "The paper: the two kinds are separable, judged by eye."

_PICKED = {
    "cell_based": "of 50 a budget: density (of at most 2) from 0.5, direct convolutions a portion above 0.5",
    "cell_free": "of the 68 that the threshold left, the most robust",
}

CAVEATS = (
    "Accuracies are on held-out training images, on which candidates are also compared, so the accuracy of the best is "
    "too high on average. The test part of the data is not used here.",
    "There is one supernet from one seed. Intervals say what other candidates of it would give, not what another "
    "supernet would.",
    "Candidates inherit weights and are finetuned for a few epochs; their order need not be that of networks trained "
    "from scratch.",
    "All candidates see the same held-out images under one attack with few steps; a robust accuracy is an upper bound.",
    "Correlations are of observations: dense architectures have more convolutions, parameters and multiply-adds too. "
    "Correlations at equal numbers of those are correlations of ranks.",
    "Each interval is a 95 % interval by itself; of many, some miss. Verdicts rest on the deciding numbers alone.",
)


def differences(results: Sequence[StudyResult]) -> Section:
    """Return the table of the paper's choices beside this search's."""
    rows = []
    for result in results:
        network, evaluation, branch = result.space.network, result.config.evaluation, result.branch
        words = kind(result)
        rows += [
            (f"network, {words}", "20 cells, 36 channels (RobNet-large and RobNet-free)", _network(result)),
            (
                f"supernet, {words}",
                "PGD-7 at 8/255, steps of 2/255; original code: 300 epochs, 32 GPUs",
                _training(result),
            ),
            (
                f"finetuning, {words}",
                "3 epochs of PGD-7 at 8/255",
                f"{counted(evaluation.finetune.epochs, 'epoch')} on {result.training:,} images, "
                f"{_attack(evaluation.finetune)}",
            ),
            (
                f"candidates, {words}",
                "1,000, and 100 a budget" if result.kind == "cell_based" else "300, of which 68 were finetuned",
                ", ".join(f"{group.name} {len(result.group(group.name)):,}" for group in branch.groups),
            ),
            (
                f"measured, {words}",
                "white-box PGD on validation samples, number not printed",
                f"PGD-{evaluation.steps} at {evaluation.eps} on {result.validation:,} held-out images of "
                f"{network.input_size[1]} pixels",
            ),
            (f"picked, {words}", _PICKED[result.kind], "; ".join(_picks(result))),
        ]
    pairs = dict.fromkeys(str(result.space.bits) for result in results)
    rows += [
        (
            "density",
            "ones of α over the 14 edges, so up to 2",
            f"over the {' or '.join(pairs)} pairs of edge and operation: up to 1",
        ),
        ("budgets, convolutions a cell", "below 7, 8 to 10, above 11", "at most 7, 8 to 10, from 11 on"),
        (
            "FSP distance, F_in",
            "the input of the cell; two inputs and strides are left open",
            "both inputs, concatenated and average-pooled to the output's size",
        ),
        (
            "FSP threshold",
            "0.006 on the mean of the last 10 cells",
            "see the groups; it belongs to a network's weights",
        ),
        ("classifier", "training accuracy", "training accuracy and cross-validation"),
        ("correlations", "shown, without coefficients", "rank correlations with intervals, verdicts by a fixed rule"),
    ]
    columns = ("topic", "the paper", "here")
    table = search_table("Where this search differs from the paper", columns, rows, scale="", texts=(0, 1, 2))
    return Section("differences", "Beside the paper", "", (table,))


def _network(result: StudyResult) -> str:
    network = result.space.network
    return f"{counted(network.depth, 'cell')}, {counted(network.channels, 'channel')}, {network.input_size[1]} pixels"


def _training(result: StudyResult) -> str:
    recipe, images = result.branch.supernet, result.config.images
    seen = "" if images is None else f" on {images - images // VALIDATION_SHARE:,} images"
    return f"{_attack(recipe)}; {counted(recipe.epochs, 'epoch')}{seen}"


def _attack(recipe: Recipe) -> str:
    attack = recipe.attack
    return f"{attack.kind.replace('_', '-').upper()}-{attack.steps} at {attack.eps}, steps of {attack.step}"


def _picks(result: StudyResult) -> list[str]:
    """Return each pick and the group of which it is the most robust."""
    groups = {group.name: group for group in result.branch.groups}
    return [
        f"{pick.name}: of {len(result.group(pick.group)):,}, {drawn(groups[pick.group])}"
        for pick in result.branch.picks
    ]


def caveats() -> Section:
    """Return what the numbers do not say."""
    elements: tuple[Element, ...] = (Remarks(CAVEATS),)
    return Section("caveats", "Caveats", "", elements)
