"""Measure the sandwich rule and in-place distillation against single paths: `python -m tools.sandwich --help`.

Searches differ in nothing but what an update of the supernet trains and in the number of epochs, so that each trains
equally many architectures on equally many attacked batches. The yardstick is the rank correlation between the robust
accuracy that a candidate inherits and the one that it has after finetuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import cyclopts

from robnet_zoo.genotype.genotype import NetworkConfig
from robnet_zoo.search.analysis.figure3 import finetuning
from robnet_zoo.search.analysis.observations import observe
from robnet_zoo.search.config import Branch, CandidateGroup, Evaluation, Sandwich, SearchConfig, load_config
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import StudyResult
from robnet_zoo.training import Recipe, TrainingAttack
from robnet_zoo.training.recipe import Augmentation

RULES: Mapping[str, Sandwich | None] = MappingProxyType(
    {
        "path": None,
        "sandwich": Sandwich(distillation=False),
        "distilled": Sandwich(),
        "whole_first": Sandwich(whole_first=0.5),
    }
)
NETWORK = NetworkConfig(
    stem="cifar", channels=8, depth=4, reductions=(1, 2), num_classes=10, input_size=(3, 8, 8), affine=False
)
EPS = "16/255"
app = cyclopts.App(help=__doc__)


def members(sandwich: Sandwich | None) -> float:
    """Return how many architectures an update trains, in the mean of a run."""
    if sandwich is None:
        return 1
    return sandwich.whole_first + (1 - sandwich.whole_first) * (2 + sandwich.random)


def config(rule: str, *, epochs: int, candidates: int, seed: int) -> SearchConfig:
    """Return the search of a rule on digits.

    Args:
        rule: a key of RULES.
        epochs: of the sandwiches; rules that train fewer architectures in an update have as many more.
        candidates: how many are drawn, uniformly.
        seed: of the search and of its supernet.
    """
    sandwich = RULES[rule]
    attack = TrainingAttack(kind="n_fgsm", eps=EPS, step=EPS, steps=1, dtype="float32", statistics="batch")
    plain = Augmentation(crop=1, flip=False)
    supernet = Recipe(
        name=rule,
        epochs=round(epochs * members(Sandwich()) / members(sandwich)),
        batch=64,
        lr=0.1,
        attack=attack,
        augmentation=plain,
        dtype="float32",
        validation=0,
        seed=seed,
    )
    finetune = supernet.model_copy(update={"name": "finetune", "epochs": 2, "lr": 0.02, "seed": 0})
    branch = Branch(
        kind="cell_based",
        network=NETWORK,
        supernet=supernet,
        groups=(CandidateGroup(name="uniform", count=candidates),),
        sandwich=sandwich,
    )
    return SearchConfig(
        name=f"digits_{rule}",
        seed=seed,
        full=load_config("small").full,
        evaluation=Evaluation(
            finetune=finetune, images=640, calibration=4, validation=129, eps=EPS, step="4/255", steps=7
        ),
        branches=(branch,),
    )


def table(results: Mapping[str, StudyResult]) -> str:
    """Return a row for each rule: its supernet, and what candidates inherit and keep, in Markdown."""
    heads = ["an update trains", "epochs", "supernet, clean", "supernet, robust"]
    heads += ["inherited robust", "finetuned robust", "rank correlation of the two", "candidates"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for rule, result in results.items():
        whole = result.supernet_accuracy
        figure = finetuning([observe(result, candidate) for candidate in result.candidates])
        order = "–" if figure.order is None else f"{figure.order:+.2f}"
        accuracies = ("–", "–") if whole is None else (f"{whole.clean:.1%}", f"{whole.robust:.1%}")
        cells = [rule, str(result.branch.supernet.epochs), *accuracies, f"{figure.before:.1%}", f"{figure.after:.1%}"]
        rows.append(f"| {' | '.join([*cells, order, str(len(result.candidates))])} |")
    return "\n".join(rows)


@app.default
def measure(*, output: Path, epochs: int = 5, candidates: int = 30, seed: int = 0) -> None:
    """Run the searches on digits, or what is left of them, and print a table.

    Args:
        output: A folder for the searches, and for their documents: digits.path.json and so on.
        epochs: Of the sandwiches; single paths have four times as many.
        candidates: How many are drawn, the same for each rule.
        seed: Of the searches and their supernets.
    """
    results = {}
    for rule in RULES:
        chosen = config(rule, epochs=epochs, candidates=candidates, seed=seed)
        search = Search(chosen, "digits", output / rule, None, shown=True)
        search.run()
        results[rule] = StudyResult.load(search.documents["cell_based"])
        results[rule].save(output / f"digits.{rule}.json")
    print(table(results))


if __name__ == "__main__":
    app()
