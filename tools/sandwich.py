"""Measure the sandwich rule and in-place distillation against single paths: `python -m tools.sandwich --help`.

Searches differ in nothing but what an update of the supernet trains and in the number of epochs, so that each trains
equally many architectures on equally many attacked batches. The yardstick is the rank correlation between the robust
accuracy that a candidate inherits and the one that it reaches alone, from random weights, on other held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import cyclopts

from robnet_zoo.core.units import fraction
from robnet_zoo.genotype.genotype import NetworkConfig
from robnet_zoo.search.analysis.inheritance import inheritance
from robnet_zoo.search.config import Branch, CandidateGroup, Evaluation, Sandwich, SearchConfig, load_config
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import StandaloneResult, StudyResult
from robnet_zoo.search.standalone import train_standalone
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
app = cyclopts.App(help=__doc__)


def members(sandwich: Sandwich | None) -> float:
    """Return how many architectures an update trains, in the mean of a run."""
    if sandwich is None:
        return 1
    return sandwich.whole_first + (1 - sandwich.whole_first) * (2 + sandwich.random)


def config(
    rule: str,
    *,
    epochs: int,
    candidates: int,
    seed: int = 0,
    eps: str = "16/255",
    images: int | None = None,
    validation: int = 64,
) -> SearchConfig:
    """Return the search of a rule on images of 8 pixels.

    Args:
        rule: a key of RULES.
        epochs: of the sandwiches; rules that train fewer architectures in an update have as many more.
        candidates: how many are drawn, uniformly.
        seed: of the search and of its supernet.
        eps: of all attacks.
        images: how many of the training images the supernet sees; by default all.
        validation: how many held-out images measure a candidate.
    """
    sandwich = RULES[rule]
    attack = TrainingAttack(kind="n_fgsm", eps=eps, step=eps, steps=1, dtype="float32", statistics="batch")
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
        name=f"pixels_8_{rule}",
        seed=seed,
        full=load_config("small").full,
        images=images,
        evaluation=Evaluation(
            finetune=finetune,
            images=640,
            calibration=4,
            validation=validation,
            eps=eps,
            step=str(fraction(eps) / 4),
            steps=7,
        ),
        branches=(branch,),
    )


def beside(result: StudyResult, alone: StandaloneResult) -> StandaloneResult:
    """Return the candidates that were trained alone with what they inherit in another study of the same candidates."""
    trained = [
        each.model_copy(update={"candidate": candidate})
        for each, candidate in zip(alone.candidates, result.candidates, strict=False)
    ]
    assert [each.candidate.codes for each in alone.candidates] == [each.candidate.codes for each in trained]
    return alone.model_copy(update={"candidates": tuple(trained)})


def table(results: Mapping[str, StudyResult], alone: StandaloneResult) -> str:
    """Return a row for each rule: its supernet, and how what candidates inherit ranks them, in Markdown."""
    heads = ["an update trains", "epochs", "supernet, clean", "supernet, robust", "inherited robust"]
    heads += ["finetuned robust", "inherited and alone", "finetuned and alone", "inherited and finetuned"]
    reached = _mean([each.standalone.robust for each in alone.candidates])
    rows = [
        f"{len(alone.candidates)} candidates, alone {reached} robust",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for rule, result in results.items():
        whole, figure = result.supernet_accuracy, inheritance(beside(result, alone))
        accuracies = ("–", "–") if whole is None else (f"{whole.clean:.1%}", f"{whole.robust:.1%}")
        measured = [(each.before, each.after) for each in result.candidates]
        means = [_mean([each.robust for each in column if each is not None]) for column in zip(*measured, strict=True)]
        orders = (figure.inherited, figure.finetuned, figure.before_after)
        cells = [rule, str(result.branch.supernet.epochs), *accuracies, *means]
        cells += ["–" if order is None else f"{order:+.2f}" for order in orders]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _mean(shares: list[float]) -> str:
    return f"{sum(shares) / len(shares):.1%}"


@app.default
def measure(
    *,
    output: Path,
    data: str = "digits",
    epochs: int = 5,
    candidates: int = 20,
    alone: int = 20,
    seed: int = 0,
    eps: str = "16/255",
    images: int | None = None,
    validation: int = 64,
) -> None:
    """Run the searches, or what is left of them, train the candidates alone and print a table.

    Args:
        output: A folder for the searches and for what is trained alone.
        data: Training images, which are made small: 8 pixels a side.
        epochs: Of the sandwiches; single paths have four times as many.
        candidates: How many are drawn, the same for each rule.
        alone: The epochs of candidates that are trained alone.
        seed: Of the searches and their supernets.
        eps: Of all attacks.
        images: How many training images the supernets see; by default all.
        validation: How many held-out images measure a candidate; as many others measure those trained alone.
    """
    results = {}
    for rule in RULES:
        chosen = config(
            rule, epochs=epochs, candidates=candidates, seed=seed, eps=eps, images=images, validation=validation
        )
        search = Search(chosen, data, output / rule, None, shown=True)
        search.run()
        results[rule] = StudyResult.load(search.documents["cell_based"])
    first = results["path"]
    recipe = first.branch.supernet.overridden({"name": "alone", "epochs": alone})
    trained = train_standalone(first, data, output / "alone", count=candidates, recipe=recipe)
    print(table(results, trained))


if __name__ == "__main__":
    app()
